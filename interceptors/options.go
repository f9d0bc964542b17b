package interceptors

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"example.com/rolecall/interceptors/internal/authz"
)

// Option changes what New makes. Options are validated by New.
type Option func(*options) error

type options struct {
	audit          slog.Handler
	auditAllowed   bool
	log            *slog.Logger
	meters         metric.MeterProvider
	allow          map[string]authz.Rule
	features       []Feature
	annotations    []string // that the features enforce
	maxConnections int
	maxStreams     int
	now            func() time.Time
}

func defaultOptions() options {
	return options{
		audit:          slog.NewJSONHandler(os.Stderr, nil),
		log:            slog.Default(),
		meters:         noop.NewMeterProvider(),
		allow:          map[string]authz.Rule{},
		maxConnections: 1000,
		maxStreams:     1000,
		now:            time.Now,
	}
}

// Audit sends the audit records to h instead of writing JSON to standard error. One goroutine calls h, for one record
// after the other; records that it cannot take fast enough are dropped and counted.
func Audit(h slog.Handler) Option {
	return func(o *options) error {
		if h == nil {
			return errors.New("audit: a nil handler was given; denials are always recorded")
		}
		o.audit = h
		return nil
	}
}

// AuditAllowed records calls that were allowed too, not only those denied.
func AuditAllowed() Option {
	return func(o *options) error {
		o.auditAllowed = true
		return nil
	}
}

// Logger takes the operational messages: bindings that could not be read, panics with their stacks. Without it they go
// to slog.Default.
func Logger(l *slog.Logger) Option {
	return func(o *options) error {
		if l == nil {
			return errors.New("logger: nil was given")
		}
		o.log = l
		return nil
	}
}

// Meter publishes the guard's metrics, all named rolecall.*, through mp. Without it there are none. They are read from
// counters when mp collects; a call costs the same with and without.
func Meter(mp metric.MeterProvider) Option {
	return func(o *options) error {
		if mp == nil {
			return errors.New("meter: a nil provider was given")
		}
		o.meters = mp
		return nil
	}
}

// Rule is what an annotation would have said: all of these roles, or any workload of the own trust domain. Exactly one
// of the two is set.
type Rule struct {
	Roles       []string
	AnyWorkload bool
}

// Allow gives a rule to a method of a service whose proto file is not ours to annotate: "/package.Service/Method". A
// method with an annotation of its own keeps it, and Serve refuses the contradiction.
func Allow(fullMethod string, rule Rule) Option {
	return func(o *options) error {
		if !strings.HasPrefix(fullMethod, "/") || strings.Count(fullMethod, "/") != 2 {
			return fmt.Errorf("allow %q: the form is /package.Service/Method", fullMethod)
		}
		if rule.AnyWorkload == (len(rule.Roles) > 0) {
			return fmt.Errorf("allow %s: give either roles or AnyWorkload", fullMethod)
		}
		if _, twice := o.allow[fullMethod]; twice {
			return fmt.Errorf("allow %s: given twice", fullMethod)
		}
		o.allow[fullMethod] = authz.Rule{Roles: rule.Roles, AnyWorkload: rule.AnyWorkload}
		return nil
	}
}

// PeerLimits bounds what one SPIFFE ID may have open at a server: connections (at least 1; 1000 if not given) and, over
// all of them, streams, and as many unary calls whose request has not arrived yet (at least 1; 1000 if not given). All
// replicas of a service share one ID.
func PeerLimits(connections, streams int) Option {
	return func(o *options) error {
		if connections < 1 || streams < 1 {
			return fmt.Errorf("peer limits of %d connections and %d streams: both must be at least 1", connections, streams)
		}
		o.maxConnections, o.maxStreams = connections, streams
		return nil
	}
}
