package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Bounds of the control socket. A client sends one line of JSON and gets one back.
const (
	maxControlLine        = 64 << 10
	maxControlConnections = maxRegistrations + 64
	controlTimeout        = 5 * time.Second
	firstTryTimeout       = 2 * time.Second
	opRegister, opList    = "register", "list"
)

// controlRequest is what a client sends; the fields of a registration go with "register".
type controlRequest struct {
	Op string `json:"op"`
	wireRegistration
}

// wireRegistration is a registration as JSON.
type wireRegistration struct {
	SPIFFEID  string   `json:"spiffe_id,omitempty"`
	PID       int      `json:"pid,omitempty"`
	StartTime uint64   `json:"start_time,omitempty"`
	DNS       []string `json:"dns,omitempty"`
	IPs       []string `json:"ips,omitempty"`
}

type controlResponse struct {
	Error         string       `json:"error,omitempty"`
	Warning       string       `json:"warning,omitempty"`
	Registrations []wireListed `json:"registrations,omitempty"`
}

type wireListed struct {
	wireRegistration
	NotAfter time.Time `json:"not_after,omitzero"`
	Problem  string    `json:"problem,omitempty"`
}

// serveControl answers on the control socket until ctx ends.
func (s *Server) serveControl(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	stop := context.AfterFunc(ctx, func() { _ = s.control.Close() })
	defer stop()
	slots := make(chan struct{}, maxControlConnections)
	for {
		conn, err := s.control.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("control socket: %w", err)
		}
		select {
		case slots <- struct{}{}:
			running.Go(func() {
				defer func() { <-slots }()
				s.answerControl(ctx, conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// answerControl answers one connection. A registration lasts until the client closes it, or dies.
func (s *Server) answerControl(ctx context.Context, conn *net.UnixConn) {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_ = conn.SetDeadline(time.Now().Add(controlTimeout))
	request, err := s.readControl(conn)
	if err != nil {
		s.reply(conn, controlResponse{Error: err.Error()})
		return
	}
	if request.Op == opList {
		s.reply(conn, controlResponse{Registrations: s.listed()})
		return
	}
	registered, err := s.registerProcess(request.wireRegistration)
	if err != nil {
		s.reply(conn, controlResponse{Error: err.Error()})
		return
	}
	defer s.registry.remove(registered)
	s.log.Info("process registered", "id", registered.identity.id, "pid", registered.process.pid)
	defer s.log.Info("process no longer registered", "id", registered.identity.id, "pid", registered.process.pid)
	var response controlResponse
	if err := firstProblem(ctx, registered.identity, s.now); err != nil {
		if status.Code(err) == codes.InvalidArgument { // no later try can end otherwise
			s.reply(conn, controlResponse{Error: err.Error()})
			return
		}
		response.Warning = err.Error()
	}
	if !s.reply(conn, response) {
		return
	}
	_ = conn.SetDeadline(time.Time{})
	_, _ = conn.Read(make([]byte, 1)) // nothing more is expected: whatever comes, also the end, ends it
}

func (s *Server) readControl(conn *net.UnixConn) (controlRequest, error) {
	p, err := readPeer(conn)
	if err != nil {
		return controlRequest{}, fmt.Errorf("who connected: %w", err)
	}
	line, err := bufio.NewReader(io.LimitReader(conn, maxControlLine)).ReadBytes('\n')
	if err != nil {
		return controlRequest{}, errors.New("one line of JSON is expected")
	}
	// Judged after the line was read: an answer to somebody who still writes could be lost.
	if int(p.uid) != os.Geteuid() {
		s.log.Warn("control socket refused another user", "pid", p.pid, "uid", p.uid)
		return controlRequest{}, fmt.Errorf("the control socket is for uid %d only", os.Geteuid())
	}
	var request controlRequest
	if err := json.Unmarshal(line, &request); err != nil {
		return controlRequest{}, fmt.Errorf("not a request: %w", err)
	}
	if request.Op != opRegister && request.Op != opList {
		return controlRequest{}, fmt.Errorf("unknown operation %q", request.Op)
	}
	return request, nil
}

func (s *Server) registerProcess(w wireRegistration) (*registration, error) {
	id, err := spiffeid.FromString(w.SPIFFEID)
	if err != nil {
		return nil, fmt.Errorf("SPIFFE ID %q: %w", w.SPIFFEID, err)
	}
	if err := checkID(id, s.config.TrustDomain); err != nil {
		return nil, err
	}
	ips, err := parseIPs(w.IPs)
	if err != nil {
		return nil, err
	}
	return s.registry.register(process{w.PID, w.StartTime}, names{id: id, dns: w.DNS, ips: ips})
}

// firstProblem waits a moment for the first certificate and tells what stands in its way.
func firstProblem(ctx context.Context, i *identity, now func() time.Time) error {
	timer := time.NewTimer(firstTryTimeout)
	defer timer.Stop()
	select {
	case <-i.tried:
		_, err := i.current(now())
		return err
	case <-timer.C:
		return errors.New("the authority has not answered yet")
	case <-ctx.Done():
		return nil
	}
}

func (s *Server) listed() []wireListed {
	var list []wireListed
	for _, reg := range s.registry.list() {
		item := wireListed{wireRegistration: wireRegistration{SPIFFEID: reg.identity.id.String(),
			PID: reg.process.pid, StartTime: reg.process.start, DNS: reg.identity.dns}}
		for _, ip := range reg.identity.ips {
			item.IPs = append(item.IPs, ip.String())
		}
		if current, err := reg.identity.current(s.now()); err != nil {
			item.Problem = err.Error()
		} else {
			item.NotAfter = current.notAfter
		}
		list = append(list, item)
	}
	return list
}

func (s *Server) reply(conn net.Conn, response controlResponse) bool {
	line, err := json.Marshal(response)
	if err != nil {
		s.log.Error("control answer", "error", err)
		return false
	}
	_, err = conn.Write(append(line, '\n'))
	return err == nil
}
