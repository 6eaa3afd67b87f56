package broker_test

import "os/exec"

// asNobody is for systems on which the test that needs it is left out.
func asNobody(*exec.Cmd) {}
