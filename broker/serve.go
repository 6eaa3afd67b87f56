package broker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

// ServeOptions say how to serve.
type ServeOptions struct {
	Home       Home
	Listen     string        // empty: as configured
	Keystore   keystore.Kind // empty: as configured
	Passphrase func(ctx context.Context, isNew bool) (string, error)
	Log        *slog.Logger
	Ready      func(relay string) // called once the doors are open
}

// ErrRunning reports that another broker serves this home.
var ErrRunning = errors.New("a broker is running already")

// Serve runs a broker until ctx ends: the relay and the two doors. One broker
// serves a home at a time; what a dead one left behind is cleaned up.
func Serve(ctx context.Context, o ServeOptions) (err error) {
	if err := o.Home.Make(); err != nil {
		return err
	}
	lock := flock.New(o.Home.lockFile(), flock.SetPermissions(0o600))
	switch ok, err := lock.TryLock(); {
	case err != nil:
		return fmt.Errorf("%s: %w", o.Home.lockFile(), err)
	case !ok:
		return ErrRunning
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()

	catalog, err := scopes.Builtin()
	if err != nil {
		return err
	}
	settings, err := ReadSettings(o.Home, catalog)
	if err != nil {
		return err
	}
	if o.Listen == "" {
		o.Listen = settings.Listen
	} else if err := checkListen(o.Listen); err != nil {
		return err
	}
	relay, err := net.Listen("tcp", o.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use by another program; set listen in %s, or say cred serve --listen 127.0.0.1:PORT", o.Listen, o.Home.Config)
	}
	if err != nil {
		return err
	}
	defer relay.Close()

	store, err := OpenStore(ctx, o.Home, o.Keystore, settings, o.Passphrase)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	b, err := New(Parts{Catalog: catalog, Config: o.Home.Config, Store: store, AuditDir: o.Home.AuditDir(),
		Upstream: newTransport(), Now: time.Now, Log: o.Log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return b.serve(ctx, o, relay)
}

// OpenStore opens the keystore of a home. Kind, when not empty, overrules the
// configuration.
func OpenStore(ctx context.Context, h Home, kind keystore.Kind, s *Settings, passphrase func(context.Context, bool) (string, error)) (*keystore.Store, error) {
	if kind == "" {
		kind = s.Keystore
	}
	return keystore.Open(ctx, keystore.Options{Kind: kind, Service: h.Ring, Dir: h.State, Passphrase: passphrase})
}

// serve opens the doors and waits. The sockets come last: whoever can connect
// finds a broker that is ready.
func (b *Broker) serve(ctx context.Context, o ServeOptions, relay net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := doors{b, "http://" + relay.Addr().String(), b.now(), stop}
	agent, err := listenUnix(o.Home.agentSocket())
	if err != nil {
		return err
	}
	owner, err := listenUnix(o.Home.ownerSocket())
	if err != nil {
		return errors.Join(err, agent.Close())
	}
	errorLog := slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)
	servers := []*http.Server{
		{Handler: b, MaxHeaderBytes: hardHeader, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: errorLog},
		{Handler: d.agent(), MaxHeaderBytes: hardHeader, ReadTimeout: readTimeout, ConnContext: withPeer, ErrorLog: errorLog},
		{Handler: d.owner(), MaxHeaderBytes: hardHeader, ReadTimeout: readTimeout, ConnContext: withPeer, ErrorLog: errorLog},
	}
	failed := make(chan error, len(servers))
	for i, l := range []net.Listener{relay, agent, owner} {
		go func() { failed <- servers[i].Serve(l) }()
	}
	if o.Ready != nil {
		o.Ready(d.relay)
	}
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	// What is under way has a moment to end; streams do not end by themselves.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for _, s := range servers {
		if s.Shutdown(grace) != nil {
			_ = s.Close() // it only closes what is still open
		}
	}
	return err
}

// listenUnix listens on a socket that only this user can reach. The caller
// holds the lock, so a socket that is there belongs to nobody.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}
