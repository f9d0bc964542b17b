package demo

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// echo is a TLS server that sends back what it gets, and a relay in front of it.
func echo(t *testing.T) *relay {
	t.Helper()
	certificate, err := forge(spiffeid.RequireFromString("spiffe://mesh.local/service/echo"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	r, err := newRelay(t.Context(), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.close()
		_ = listener.Close()
		<-ended
	})
	return r
}

// through connects through a relay.
func through(t *testing.T, r *relay) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", r.address(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// said sends a message and returns what comes back.
func said(conn net.Conn, words string) (string, error) {
	if _, err := io.WriteString(conn, words); err != nil {
		return "", err
	}
	answer := make([]byte, len(words))
	_, err := io.ReadFull(conn, answer)
	return string(answer), err
}

var words = strings.Repeat("a transfer of 12.50 euro; ", 20)

func TestARelayPassesOnAndReadsOnlyCiphertext(t *testing.T) {
	t.Parallel()
	r := echo(t)
	if got, err := said(through(t, r), words); err != nil || got != words {
		t.Fatalf("got %q, %v, want the message back", got, err)
	}
	taps := r.connections()
	if len(taps) != 1 {
		t.Fatalf("%d connections were recorded, want 1", len(taps))
	}
	sent, received := taps[0].conversation()
	if len(sent) < len(words) || len(received) < len(words) {
		t.Errorf("recorded %d and %d bytes, want at least the %d of the message", len(sent), len(received), len(words))
	}
	if bytes.Contains(sent, []byte("transfer")) || bytes.Contains(received, []byte("transfer")) {
		t.Error("the recording holds the plaintext")
	}
}

func TestAByteThatARelayChangesEndsTheConnection(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*relay) *way{
		"of a request": func(r *relay) *way { return &r.requests },
		"of an answer": func(r *relay) *way { return &r.answers },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := echo(t)
			conn := through(t, r)
			if _, err := said(conn, words); err != nil {
				t.Fatal(err)
			}
			change(r).turnOver()
			if got, err := said(conn, "short"); err != nil || turned(change(r)) {
				t.Errorf("a message too short to be a request: %q, %v, changed: %v, want it back as it was", got, err, turned(change(r)))
			}
			if got, err := said(conn, words); err == nil || !strings.Contains(err.Error(), "bad record MAC") || !turned(change(r)) {
				t.Errorf("got %q, %v, want an error about a bad record MAC", got, err)
			}
		})
	}
}

// turned tells whether a bit has been turned over, or none was to be.
func turned(w *way) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.turn
}

func TestAShutWayHoldsBackAndLosesNothing(t *testing.T) {
	t.Parallel()
	r := echo(t)
	conn := through(t, r)
	if _, err := said(conn, words); err != nil {
		t.Fatal(err)
	}
	_, before := r.connections()[0].conversation()
	r.answers.shut()
	came := make(chan error, 1)
	go func() {
		got, err := said(conn, words)
		if err == nil && got != words {
			err = errors.New("another message came back: " + got)
		}
		came <- err
	}()
	// That nothing comes cannot be seen without waiting; that it has gone through until there can.
	for deadline := time.Now().Add(patience); ; {
		if _, received := r.connections()[0].conversation(); len(received) >= len(before)+len(words) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the answer did not reach the relay")
		}
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-came:
		t.Fatalf("the answer came through, %v, and the way is shut", err)
	default:
	}
	r.answers.open()
	if err := <-came; err != nil {
		t.Error(err)
	}
}

func TestClosingARelayEndsWhatWaitsInIt(t *testing.T) {
	t.Parallel()
	r := echo(t)
	conn := through(t, r)
	r.requests.shut()
	if _, err := io.WriteString(conn, words); err != nil {
		t.Fatal(err)
	}
	r.close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlives the relay")
	}
}
