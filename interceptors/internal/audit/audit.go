// Package audit writes one structured record for each decision, without ever making the decision wait.
package audit

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"time"
)

// Verdicts.
const (
	Allowed = "allowed"
	Denied  = "denied"
)

const (
	queueLength = 4096
	// closeTimeout bounds how long Close waits for a handler that hangs.
	closeTimeout = 2 * time.Second
)

// Record is one decision. Everything in it that a peer chose (RequestID, TraceID, Claimed, Method) has been cut to a
// bounded length.
type Record struct {
	Time     time.Time // set by Write
	Event    string    // "call", "stream" for one that was looked at again while open, "handshake"
	Method   string
	Workload string // the verified SPIFFE ID; empty for a handshake that failed
	User     string // the verified user on whose behalf; empty for none
	// UserIssuer is who vouches for the user, if that is not the mesh's own tokens service.
	UserIssuer string
	Signer     string // the verified SPIFFE ID of who signed the request; empty for a method without proof
	Claimed    string // what a refused certificate said
	Peer       net.Addr
	Serial     string   // hex
	Roles      []string // what was asked for
	Missing    []string // what of it the workload does not hold
	Narrowed   bool     // the caller gave up roles for this call
	Verdict    string
	Reason     string
	Detail     string
	Policy     string // version of the bindings
	Request    string
	Trace      string
}

// Log hands records to a slog.Handler in a goroutine of its own. Safe for concurrent use.
type Log struct {
	handler slog.Handler
	queue   chan Record
	dropped atomic.Uint64
	stop    chan struct{}
	done    chan struct{}
}

// New starts a log; Close ends it.
func New(handler slog.Handler) *Log {
	l := &Log{handler: handler, queue: make(chan Record, queueLength), stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l
}

// Write queues a record. It never blocks: a record for which the queue has no room is dropped and counted.
func (l *Log) Write(r Record) {
	r.Time = time.Now()
	select {
	case l.queue <- r:
	default:
		l.dropped.Add(1)
	}
}

// Dropped returns how many records were lost since the start.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Close writes what is queued and stops; it gives up on a handler that does not return within two seconds. Records
// written later may be lost. Call it once.
func (l *Log) Close() {
	close(l.stop)
	select {
	case <-l.done:
	case <-time.After(closeTimeout):
	}
}

func (l *Log) run() {
	defer close(l.done)
	var told uint64
	for {
		select {
		case r := <-l.queue:
			l.emit(r)
		case <-l.stop:
			for {
				select {
				case r := <-l.queue:
					l.emit(r)
				default:
					return
				}
			}
		}
		if n := l.dropped.Load(); n != told {
			lost := slog.NewRecord(time.Now(), slog.LevelError, "audit records were dropped", 0)
			lost.AddAttrs(slog.Uint64("dropped_total", n))
			_ = l.handler.Handle(context.Background(), lost)
			told = n
		}
	}
}

func (l *Log) emit(r Record) {
	level := slog.LevelInfo
	if r.Verdict == Denied {
		level = slog.LevelWarn
	}
	ctx := context.Background()
	if !l.handler.Enabled(ctx, level) {
		return
	}
	out := slog.NewRecord(r.Time, level, "audit", 0)
	out.AddAttrs(slog.String("event", r.Event), slog.String("verdict", r.Verdict))
	for _, a := range []struct{ key, value string }{
		{"reason", r.Reason}, {"method", r.Method}, {"workload", r.Workload}, {"user", r.User}, {"user_issuer", r.UserIssuer}, {"signer", r.Signer}, {"claimed_id", r.Claimed},
		{"serial", r.Serial}, {"detail", r.Detail}, {"policy", r.Policy}, {"request_id", r.Request}, {"trace_id", r.Trace},
	} {
		if a.value != "" {
			out.AddAttrs(slog.String(a.key, a.value))
		}
	}
	if r.Peer != nil {
		out.AddAttrs(slog.String("peer", r.Peer.String()))
	}
	if len(r.Roles) > 0 {
		out.AddAttrs(slog.Any("roles", r.Roles))
	}
	if len(r.Missing) > 0 {
		out.AddAttrs(slog.Any("missing_roles", r.Missing))
	}
	if r.Narrowed {
		out.AddAttrs(slog.Bool("narrowed", true))
	}
	// A handler that fails has lost the record; there is nobody left to tell but the counter.
	if err := l.handler.Handle(ctx, out); err != nil {
		l.dropped.Add(1)
	}
}
