package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

// terminal is a pseudo-terminal: somebody types at one end, and a command reads at the other.
type terminal struct {
	t     *testing.T
	ours  *os.File
	its   *os.File
	mu    sync.Mutex
	shown bytes.Buffer // what the terminal itself echoes
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	term := &terminal{t: t, ours: ours, its: its}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(term, ours)
	}()
	t.Cleanup(func() { its.Close(); ours.Close(); <-ended })
	return term
}

// Write takes what the terminal shows.
func (p *terminal) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.Write(b)
}

func (p *terminal) screen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.String()
}

// echo tells whether the terminal shows what is typed.
func (p *terminal) echo() bool {
	p.t.Helper()
	state, err := unix.IoctlGetTermios(int(p.its.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// questions counts prompts, and lets the answers be typed when they are asked: a terminal forgets what was typed before.
type questions struct {
	mu    sync.Mutex
	text  bytes.Buffer
	asked chan struct{}
}

func (q *questions) Write(b []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if bytes.HasSuffix(b, []byte(": ")) {
		q.asked <- struct{}{}
	}
	return q.text.Write(b)
}

func (q *questions) String() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.text.String()
}

// at runs a command line at the terminal, and types an answer to each question as soon as the echo is off.
func (p *terminal) at(ctx context.Context, answers []string, args ...string) (stdout, asked string, err error) {
	p.t.Helper()
	var out bytes.Buffer
	q := &questions{asked: make(chan struct{}, 8)}
	a := &app{out: cli.Plain(&out), in: p.its, questions: q}
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx, args) }()
	for _, answer := range answers {
		select {
		case <-q.asked:
		case err := <-ended:
			return out.String(), q.String(), err
		case <-time.After(10 * time.Second):
			p.t.Fatal("nothing was asked within 10 s")
		}
		began := time.Now()
		for tick := time.NewTicker(time.Millisecond); p.echo(); <-tick.C {
			if time.Since(began) > 10*time.Second {
				p.t.Fatal("the echo was not turned off within 10 s")
			}
		}
		if _, err := io.WriteString(p.ours, answer); err != nil {
			p.t.Fatal(err)
		}
	}
	err = <-ended
	return out.String(), q.String(), err
}

func TestThePassphraseIsAskedForTwiceWithoutEcho(t *testing.T) {
	t.Parallel()
	p, o := newTerminal(t), newOffline(t)
	line := passphrase + "\n"
	stdout, asked, err := p.at(t.Context(), []string{line, line}, o.words("pki init --root @root --trust-domain mesh.local")...)
	if err != nil {
		t.Fatalf("%v, %s", err, asked)
	}
	if strings.Count(asked, "passphrase")+strings.Count(asked, "once more") != 2 {
		t.Errorf("asked: %q", asked)
	}
	for where, text := range map[string]string{"terminal": p.screen(), "questions": asked, "standard output": stdout} {
		if strings.Contains(text, passphrase) {
			t.Errorf("the passphrase is shown by the %s: %q", where, text)
		}
	}
	if !p.echo() {
		t.Error("the terminal is left without echo")
	}
	if _, err := pki.OpenRoot(o.path("root"), []byte(passphrase)); err != nil {
		t.Errorf("open the root with what was typed: %v", err)
	}

	// And once for a root that is there.
	o.must("pki issuer csr --ca @ca --trust-domain mesh.local --out @i.csr")
	if _, asked, err := p.at(t.Context(), []string{line}, o.words("pki issuer sign --root @root --csr @i.csr --out @i.crt")...); err != nil {
		t.Errorf("sign: %v, %s", err, asked)
	}
	if _, _, err := p.at(t.Context(), []string{"something else\n"}, o.words("pki issuer sign --root @root --csr @i.csr --out @j.crt")...); err == nil || exists(o.path("j.crt")) {
		t.Errorf("sign with another passphrase: %v", err)
	}
}

func TestTwoPassphrasesThatDifferMakeNoRoot(t *testing.T) {
	t.Parallel()
	p, o := newTerminal(t), newOffline(t)
	_, _, err := p.at(t.Context(), []string{passphrase + "\n", passphrase + "r\n"}, o.words("pki init --root @root --trust-domain mesh.local")...)
	if err == nil || !strings.Contains(err.Error(), "differ") || exists(o.path("root")) {
		t.Errorf("got %v, root made: %v", err, exists(o.path("root")))
	}
}

func TestCtrlCAtThePromptGivesTheTerminalBack(t *testing.T) {
	t.Parallel()
	p, o := newTerminal(t), newOffline(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	q := &questions{asked: make(chan struct{}, 1)}
	a := &app{out: cli.Plain(io.Discard), in: p.its, questions: q}
	go func() { ended <- a.run(ctx, o.words("pki init --root @root --trust-domain mesh.local")) }()
	<-q.asked
	cancel() // as main does at SIGINT
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("got %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the command did not end within 10 s")
	}
	if exists(o.path("root")) {
		t.Error("a root was made")
	}
	_, _ = io.WriteString(p.ours, "\n") // for whoever still reads
}
