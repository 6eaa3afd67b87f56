package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/credbroker/cred/broker/audit"
	"github.com/credbroker/cred/keystore"
	"github.com/credbroker/cred/scopes"
)

// A hand does what was judged. It holds the way to the keys and decides
// nothing.
type hand struct {
	keys     Keys
	upstream http.RoundTripper
}

// Keys gives out secrets by name. It is implemented by [keystore.Store].
type Keys interface {
	Secret(name string) (keystore.Secret, error)
}

// send sends call to its provider with the root key attached, and returns the
// answer with every trace of the key masked. The request is built from call
// alone: what was judged is what is sent. The Pending is the proof that the log
// has the entry that says why; only the log makes one.
func (h hand) send(ctx context.Context, call scopes.Call, to upstream, proof *audit.Pending) (*http.Response, error) {
	if proof == nil {
		return nil, errors.New("no entry in the log for this call")
	}
	out, err := http.NewRequestWithContext(ctx, call.Method, to.base.String()+call.Path, bytes.NewReader(call.Body))
	if err != nil {
		return nil, err
	}
	out.URL.RawQuery = call.Query
	for name, values := range call.Header {
		out.Header[name] = values
	}
	mask, err := h.attach(out, string(call.Provider), to.auth)
	if err != nil {
		return nil, err
	}
	resp, err := h.upstream.RoundTrip(out)
	if err != nil {
		if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
			return nil, fmt.Errorf("%w: %s", errNotReached, mask.text(err.Error()))
		}
		return nil, errors.New(mask.text(err.Error()))
	}
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		resp.Body.Close()
		return nil, fmt.Errorf("the provider answers the status %d, which is none of an answer", resp.StatusCode)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" {
		// The transport asks for gzip and undoes it. Another encoding was not
		// asked for, and in it the key could not be seen.
		resp.Body.Close()
		return nil, fmt.Errorf("the provider answers in the encoding %q, which was not asked for", mask.text(e))
	}
	for _, values := range resp.Header {
		for i, v := range values {
			values[i] = mask.text(v)
		}
	}
	resp.Body = mask.reader(resp.Body)
	return resp, nil
}

// errNotReached marks a call of which the provider has seen nothing.
var errNotReached = errors.New("not reached")

// dropped are the response headers that belong to the hop, that would hand the
// agent a session of the owner's, or that are the broker's own.
var dropped = []string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Set-Cookie", "Alt-Svc", "Strict-Transport-Security", "Clear-Site-Data",
	"Cred-Call", "Cred-Refusal", // only the broker says these
}

// bufferSize is how much of an answer is read at once.
const bufferSize = 32 << 10

// buffers lends out memory and holds nothing that counts: it is the one package
// variable that changes.
var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// deliver copies an answer to the agent. It flushes after every read of a
// stream, so that events arrive when they happen. What it returns goes into the
// log; the answer may have been cut.
func deliver(ctx context.Context, w http.ResponseWriter, resp *http.Response) (n int64, err error) {
	defer resp.Body.Close()
	rc := http.NewResponseController(w)
	// An agent that does not read would hold its answer open beyond the lease.
	cut := context.AfterFunc(ctx, func() { _ = rc.SetWriteDeadline(time.Now()) })
	defer cut()
	for name, values := range resp.Header {
		if !slices.Contains(dropped, name) {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	flush := func() error { return nil }
	if resp.ContentLength < 0 {
		flush = rc.Flush
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		k, err := resp.Body.Read(*buf)
		if k > 0 {
			if _, err := w.Write((*buf)[:k]); err != nil {
				return n, fmt.Errorf("the agent went away: %w", err)
			}
			n += int64(k)
			if err := flush(); err != nil {
				return n, fmt.Errorf("the agent went away: %w", err)
			}
		}
		switch {
		case err == io.EOF:
			return n, nil
		case context.Cause(ctx) != nil:
			return n, context.Cause(ctx)
		case err != nil:
			return n, fmt.Errorf("the provider's answer broke off: %w", err)
		}
	}
}

// fetch sends a call of the broker's own and reads the answer whole.
func (h hand) fetch(ctx context.Context, call scopes.Call, to upstream, proof *audit.Pending) (status int, body []byte, err error) {
	resp, err := h.send(ctx, call, to, proof)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	return resp.StatusCode, body, err
}

// maxAnswer bounds what a look-up reads.
const maxAnswer = 8 << 20

// newTransport returns the transport to providers. Go keeps two idle
// connections a host unless told otherwise, which makes every further call of a
// busy agent pay for a TLS handshake.
func newTransport() *http.Transport {
	return &http.Transport{
		MaxIdleConns:           512,
		MaxIdleConnsPerHost:    128,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  2 * time.Minute,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         16 << 10,
	}
}
