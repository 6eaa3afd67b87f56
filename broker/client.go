package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

// A Client speaks to a running broker through its doors.
type Client struct {
	agent, owner *http.Client
	lock         string
}

// ErrNotRunning reports that no broker serves the home.
var ErrNotRunning = errors.New("no broker is running")

// NewClient returns a client for the broker of a home. It does not connect yet.
func NewClient(h Home) *Client {
	through := func(path string) *http.Client {
		return &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dialOwn(ctx, path) },
		}}
	}
	return &Client{through(h.agentSocket()), through(h.ownerSocket()), h.lockFile()}
}

// dialOwn connects to a socket behind which is a process of this user. Somebody
// else's could have been put where a broker's is looked for, to be given keys.
func dialOwn(ctx context.Context, path string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if peer, err := peerOf(c); err != nil || peer.UID != os.Getuid() {
		return nil, errors.Join(fmt.Errorf("%s is served by another user; nothing was said to it", path), err, c.Close())
	}
	return c, nil
}

// Close gives back the connections.
func (c *Client) Close() {
	c.agent.CloseIdleConnections()
	c.owner.CloseIdleConnections()
}

// A ProblemError is a refusal by the broker, as a command sees it.
type ProblemError struct{ Problem }

func (e *ProblemError) Error() string {
	switch {
	case e.Detail != "":
		return e.Detail
	default:
		return e.Title
	}
}

// Lease asks for a lease.
func (c *Client) Lease(ctx context.Context, r LeaseRequest) (LeaseGrant, error) {
	return ask[LeaseGrant](ctx, c.agent, "POST", "/leases", r)
}

// GiveBack ends the lease of a token.
func (c *Client) GiveBack(ctx context.Context, token string) error {
	_, err := ask[[]LeaseInfo](ctx, c.agent, "POST", "/revoke", RevokeRequest{Token: token})
	return err
}

// Status asks the agents' door how the broker is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c.agent, "GET", "/status", nil)
}

// OwnerStatus also says which providers have a key.
func (c *Client) OwnerStatus(ctx context.Context) (Status, error) {
	return ask[Status](ctx, c.owner, "GET", "/status", nil)
}

// Leases lists the leases that have not expired.
func (c *Client) Leases(ctx context.Context) ([]LeaseInfo, error) {
	return ask[[]LeaseInfo](ctx, c.owner, "GET", "/leases", nil)
}

// Revoke ends one lease or all and returns those that it ended.
func (c *Client) Revoke(ctx context.Context, r RevokeRequest) ([]LeaseInfo, error) {
	return ask[[]LeaseInfo](ctx, c.owner, "POST", "/revoke", r)
}

// PutKey puts a provider's root key into the keystore.
func (c *Client) PutKey(ctx context.Context, provider, key string) error {
	_, err := ask[empty](ctx, c.owner, "PUT", "/keys/"+provider, KeyRequest{key})
	return err
}

// RemoveKey removes a provider's root key.
func (c *Client) RemoveKey(ctx context.Context, provider string) error {
	_, err := ask[empty](ctx, c.owner, "DELETE", "/keys/"+provider, nil)
	return err
}

// Explain judges a request, with look-ups at the provider where they are
// needed.
func (c *Client) Explain(ctx context.Context, r ExplainRequest) (Explanation, error) {
	return ask[Explanation](ctx, c.owner, "POST", "/explain", r)
}

// Stop ends the broker and waits until it has let go of the home, for at most
// ten seconds.
func (c *Client) Stop(ctx context.Context) error {
	if _, err := ask[empty](ctx, c.owner, "POST", "/stop", empty{}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	lock := flock.New(c.lock)
	if ok, _ := lock.TryLockContext(ctx, 5*time.Millisecond); !ok {
		return errors.New("the broker was told to stop and has not gone yet")
	}
	return lock.Unlock()
}

// ask sends one document and reads another.
func ask[Out any](ctx context.Context, door *http.Client, method, path string, in any) (out Out, err error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return out, err
		}
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://broker"+path, body)
	if err != nil {
		return out, err
	}
	resp, err := door.Do(r)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTSOCK) ||
		errors.Is(err, syscall.ECONNRESET) && method == http.MethodGet: // it is going away
		return out, ErrNotRunning
	case err != nil:
		return out, fmt.Errorf("the broker does not answer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		e := new(ProblemError)
		if err := json.NewDecoder(resp.Body).Decode(&e.Problem); err != nil {
			return out, fmt.Errorf("the broker answers %s", resp.Status)
		}
		return out, e
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return out, fmt.Errorf("the broker's answer cannot be read: %w", err)
	}
	return out, nil
}
