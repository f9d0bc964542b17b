package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/reflection"

	adminv1 "example.com/rolecall/gen/rolecall/admin/v1"
	"example.com/rolecall/interceptors"
)

// Run runs a service until ctx ends. It then refuses new calls, lets those in flight end within cfg.Grace, and returns nil.
// Any other end is an error that says what to do.
func Run(ctx context.Context, cfg Config, setup func(ctx context.Context, n *Node) error) (err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Grace == 0 {
		cfg.Grace = defaultGrace
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", cfg.Name, err)
		}
	}()
	if err := cfg.check(); err != nil {
		return err
	}
	n := &Node{config: cfg, stopping: make(chan struct{})}
	n.background, n.cancelBackground = context.WithCancel(context.WithoutCancel(ctx))
	defer func() { err = errors.Join(err, n.close()) }()

	source, err := n.openSource(ctx)
	if err != nil {
		return err
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return fmt.Errorf("read the own certificate: %w", err)
	}
	if !cfg.ID.IsZero() && svid.ID != cfg.ID {
		return fmt.Errorf("the own certificate is of %s, not of %s", svid.ID, cfg.ID)
	}
	n.ID, n.source = svid.ID, source
	n.Log = cfg.Log.With(slog.String("service", cfg.Name))
	metrics, err := newMetrics()
	if err != nil {
		return err
	}
	n.closers = append(n.closers, metrics.close)
	n.Meter = metrics.provider.Meter("example.com/rolecall/" + cfg.Name)
	options, err := n.features()
	if err != nil {
		return err
	}
	n.closers = append(n.closers, n.closeDatabase) // after the guard, whose features use it
	if n.guard, err = interceptors.New(source, interceptors.BindingsFile(cfg.Roles), append(options, n.guardOptions(metrics)...)...); err != nil {
		return err
	}
	n.closers = append(n.closers, n.guard.Close)

	server := n.guard.NewServer()
	defer server.Stop() // also a server that was never started has goroutines
	n.Server = server
	health := registerHealth(server, n.stopping)
	reflection.Register(server)
	adminv1.RegisterAdminServiceServer(server, &trustService{source: source, guard: n.guard, log: n.Log})
	if err := setup(ctx, n); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return n.serve(ctx, server, health, metrics)
}

func (cfg Config) check() error {
	switch {
	case cfg.Name == "":
		return errors.New("the service needs a name")
	case cfg.Listen == "":
		return errors.New("no address to listen on: give --listen HOST:PORT")
	case cfg.Roles == "":
		return errors.New("no bindings: give --roles PATH of roles.yaml")
	}
	return checkLoopback(cfg.Admin)
}

func (n *Node) guardOptions(m *metrics) []interceptors.Option {
	options := []interceptors.Option{interceptors.Meter(m.provider), interceptors.Logger(n.Log)}
	if n.config.AuditAllowed {
		options = append(options, interceptors.AuditAllowed())
	}
	if n.config.Audit != nil {
		options = append(options, interceptors.Audit(n.config.Audit))
	}
	return options
}

// serve opens the listeners, serves until ctx ends or a server fails, and stops.
func (n *Node) serve(ctx context.Context, server *interceptors.Server, health *healthService, metrics *metrics) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", n.config.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.config.Listen, err)
	}
	accepting := &firstAccept{Listener: listener, reached: make(chan struct{})}
	defer listener.Close() //nolint:errcheck // the server has closed it, unless it was never started
	admin, err := n.openAdmin(ctx, metrics)
	if err != nil {
		return err
	}
	defer admin.close()

	failed := make(chan error, 1)
	go func() { failed <- server.Serve(accepting) }()
	select {
	case err := <-failed: // a method without a policy, for example
		return err
	case <-accepting.reached:
	}
	health.serving()
	admin.ready.Store(true)
	n.Log.Info("serving", slog.String("address", listener.Addr().String()), slog.String("admin", admin.address()),
		slog.String("spiffe_id", n.ID.String()), slog.String("policy", n.guard.Status().PolicyVersion))
	if n.config.Ready != nil {
		n.config.Ready(listener.Addr().String(), admin.address())
	}

	select {
	case err = <-failed:
		server.Stop()
		return fmt.Errorf("the server ended by itself: %w", err)
	case err = <-admin.failed:
		server.Stop()
		<-failed
		return fmt.Errorf("the admin server ended by itself: %w", err)
	case <-ctx.Done():
	}
	admin.ready.Store(false)
	health.Shutdown()
	close(n.stopping)
	n.stop(server)
	<-failed
	return nil
}

// stop lets the calls in flight end, and breaks off what is left after Grace.
func (n *Node) stop(server *interceptors.Server) {
	began := time.Now()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.GracefulStop()
	}()
	grace := time.NewTimer(n.config.Grace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		n.Log.Warn("calls broken off: they were still running when the time to stop was over", slog.Duration("grace", n.config.Grace))
		server.Stop()
		<-ended
	}
	n.Log.Info("stopped", slog.Duration("took", time.Since(began)))
}

// firstAccept tells when the server accepts connections for the first time: it has passed its own checks then.
type firstAccept struct {
	net.Listener
	once    sync.Once
	reached chan struct{}
}

func (l *firstAccept) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.reached) })
	return l.Listener.Accept()
}
