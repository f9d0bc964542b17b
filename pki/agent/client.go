package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// maxControlAnswer bounds what a client reads of an agent's answer: a list of all registrations fits.
const maxControlAnswer = 16 << 20

// Registration says that a process, and its descendants, are a workload.
type Registration struct {
	ID          spiffeid.ID
	PID         int
	StartTime   uint64 // StartTime(PID) if zero
	DNSNames    []string
	IPAddresses []net.IP
}

// Listed is a registration as the agent tells it.
type Listed struct {
	Registration
	NotAfter time.Time // when its certificate ends; zero if there is none
	Problem  string    // why it has none
}

// Registered is a registration that stands for as long as it is not closed and the agent runs.
type Registered struct {
	// Warning says why the first certificate could not be issued, "" if it was: the agent goes on trying.
	Warning string

	conn net.Conn
	gone chan struct{}
}

// Close ends the registration. The processes keep the certificates they have, until those expire.
func (r *Registered) Close() error { return r.conn.Close() }

// Gone is closed when the registration has ended: by Close, or because the agent stopped.
func (r *Registered) Gone() <-chan struct{} { return r.gone }

// Register registers a process with the agent that has this control socket, for as long as what it returns is open. Names
// that the authority refuses are an error; while it cannot be reached, or does not let the agent ask, there is a Warning.
func Register(ctx context.Context, control string, r Registration) (*Registered, error) {
	if r.StartTime == 0 {
		var err error
		if r.StartTime, err = StartTime(r.PID); err != nil {
			return nil, fmt.Errorf("register process: %w", err)
		}
	}
	wire := wireRegistration{SPIFFEID: r.ID.String(), PID: r.PID, StartTime: r.StartTime, DNS: r.DNSNames}
	for _, ip := range r.IPAddresses {
		wire.IPs = append(wire.IPs, ip.String())
	}
	conn, response, err := ask(ctx, control, controlRequest{Op: opRegister, wireRegistration: wire})
	if err != nil {
		return nil, fmt.Errorf("register process %d as %s: %w", r.PID, r.ID, err)
	}
	registered := &Registered{Warning: response.Warning, conn: conn, gone: make(chan struct{})}
	go func() {
		defer close(registered.gone)
		_, _ = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}()
	return registered, nil
}

// KeepRegistered registers a process and does so again whenever the agent comes back after it was gone, until ctx ends.
// Failures are logged and tried again. While the registration stands it looks after nothing but ctx and the agent, so ctx
// has to end with the process; an end of the process is noticed by itself only before the next try.
func KeepRegistered(ctx context.Context, control string, r Registration, log *slog.Logger) {
	if r.StartTime == 0 {
		r.StartTime, _ = StartTime(r.PID) // a process that is gone already fails below
	}
	backoff := firstBackoff
	for ctx.Err() == nil && (process{r.PID, r.StartTime}).alive() == nil {
		registered, err := Register(ctx, control, r)
		if err != nil {
			if ctx.Err() == nil {
				log.Warn("process could not be registered; trying again", "error", err)
			}
			pki.WaitUntil(ctx, time.Now().Add(backoff))
			backoff = min(2*backoff, lastBackoff)
			continue
		}
		if registered.Warning != "" {
			log.Warn("registered, but without a certificate yet", "id", r.ID, "reason", registered.Warning)
		}
		backoff = firstBackoff
		select {
		case <-ctx.Done():
		case <-registered.gone:
			pki.WaitUntil(ctx, time.Now().Add(firstBackoff))
		}
		_ = registered.Close()
		<-registered.gone
	}
}

// List returns the registrations of the agent that has this control socket.
func List(ctx context.Context, control string) ([]Listed, error) {
	conn, response, err := ask(ctx, control, controlRequest{Op: opList})
	if err != nil {
		return nil, fmt.Errorf("list registered processes: %w", err)
	}
	_ = conn.Close()
	list := make([]Listed, 0, len(response.Registrations))
	for _, w := range response.Registrations {
		id, err := spiffeid.FromString(w.SPIFFEID)
		if err != nil {
			return nil, fmt.Errorf("list registered processes: %w", err)
		}
		ips, err := parseIPs(w.IPs)
		if err != nil {
			return nil, fmt.Errorf("list registered processes: %w", err)
		}
		list = append(list, Listed{NotAfter: w.NotAfter, Problem: w.Problem, Registration: Registration{
			ID: id, PID: w.PID, StartTime: w.StartTime, DNSNames: w.DNS, IPAddresses: ips}})
	}
	return list, nil
}

// ask sends one request and reads its answer; the connection stays open.
func ask(ctx context.Context, control string, request controlRequest) (net.Conn, *controlResponse, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", control)
	if err != nil {
		return nil, nil, fmt.Errorf("no agent answers at %s (is the mesh running?): %w", control, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	response, err := exchange(conn, request)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, response, nil
}

func exchange(conn net.Conn, request controlRequest) (*controlResponse, error) {
	_ = conn.SetDeadline(time.Now().Add(2 * controlTimeout))
	line, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	answer, err := bufio.NewReader(io.LimitReader(conn, maxControlAnswer)).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	var response controlResponse
	if err := json.Unmarshal(answer, &response); err != nil {
		return nil, fmt.Errorf("read the agent's answer: %w", err)
	}
	if response.Error != "" {
		return nil, errors.New(response.Error)
	}
	return &response, conn.SetDeadline(time.Time{})
}
