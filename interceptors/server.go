package interceptors

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/identity"
	"example.com/rolecall/interceptors/internal/wire"
)

// Server is a gRPC server whose guard cannot be left out. It is a grpc.ServiceRegistrar and a reflection.GRPCServer.
// Health and reflection may be registered like any service; their rules are built in.
type Server struct {
	guard *Guard
	grpc  *grpc.Server
	err   error         // why it must not start
	grace time.Duration // unary calls get no more time than this

	start    sync.Once
	methods  map[string]*method
	unknown  method
	table    *authz.Table
	snapshot atomic.Pointer[snapshot]
	handlers sync.WaitGroup

	mu    sync.Mutex
	conns map[*connection]struct{}
	peers map[spiffeid.ID]*peerUse
}

// method is a registered method, from RegisterService on, and its rule, from Serve on.
type method struct {
	full   string
	rule   *authz.Method // nil: no policy
	counts [reasonCount]atomic.Uint64
}

// NewServer makes a server. The caller's options are applied first, so that nothing in them weakens the guard: its
// credentials, its stream interceptor, its handler for unknown services and its limits of a connection's life stand.
// Interceptors of the caller run inside the guard; give them with grpc.ChainStreamInterceptor, since
// grpc.StreamInterceptor would claim the outermost place, and Serve refuses that. With a feature that enforces
// requires_proof or exactly_once messages are those of Protobuf, and no codec of the caller's is used.
func (g *Guard) NewServer(opts ...grpc.ServerOption) *Server {
	s := &Server{
		guard:   g,
		methods: map[string]*method{},
		unknown: method{full: "unknown"},
		conns:   map[*connection]struct{}{},
		peers:   map[spiffeid.ID]*peerUse{},
	}
	age, grace, err := connectionLife(g.source)
	s.grace, s.err = grace, err
	defaults := []grpc.ServerOption{
		grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
		grpc.ReadBufferSize(4 << 10), // halves the memory of an idle connection, no measurable time
		grpc.MaxConcurrentStreams(1000),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
	guarded := []grpc.ServerOption{
		grpc.Creds(identity.Server(g.credentials("handshake", s.opened, s.closed))),
		grpc.StreamInterceptor(s.interceptStream),
		grpc.UnknownServiceHandler(s.refuseUnknown),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: age, MaxConnectionAgeGrace: grace}),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.WriteBufferSize(32 << 10), // unbuffered, gRPC loses track of a connection that is reset after its handshake
	}
	if g.proofs != nil || g.once != nil {
		guarded = append(guarded, grpc.ForceServerCodecV2(wire.Codec()))
	}
	s.grpc, err = newGRPC(slices.Concat(defaults, opts, guarded))
	if err != nil {
		s.err = errors.Join(s.err, err)
		s.grpc = grpc.NewServer(guarded...)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.servers = append(g.servers, s)
	return s
}

// newGRPC turns the panic of gRPC over an option that was given twice into an error.
func newGRPC(opts []grpc.ServerOption) (srv *grpc.Server, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: the guard's own interceptor stays outermost; give yours with grpc.ChainStreamInterceptor and grpc.ChainUnaryInterceptor", p)
		}
	}()
	return grpc.NewServer(opts...), nil
}

// connectionLife says when a connection is drained and how long what is under way then may take: 1.1 x age + grace fits
// into what is left of a certificate at its latest renewal, 0.45 of its life, less two seconds; grace is three times age.
// gRPC varies the age by a tenth.
func connectionLife(source Source) (age, grace time.Duration, err error) {
	svid, err := source.GetX509SVID()
	if err != nil {
		return 0, 0, fmt.Errorf("read the own certificate: %w", err)
	}
	leaf := svid.Certificates[0]
	// NotBefore is backdated by the lesser of 30 s and a tenth of life, which is not part of the life.
	valid := leaf.NotAfter.Sub(leaf.NotBefore)
	life := valid - min(30*time.Second, valid/11)
	age = time.Duration((0.45*life.Seconds() - 2) / 4.1 * float64(time.Second))
	if age < 500*time.Millisecond {
		return 0, 0, fmt.Errorf("the own certificate lives for %s, at least 15 s are needed", life.Round(time.Millisecond))
	}
	return age, 3 * age, nil
}

// RegisterService registers a service and its implementation, as grpc.Server does. Call it before Serve.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	guarded := *desc
	guarded.Methods = slices.Clone(desc.Methods)
	for i, m := range guarded.Methods {
		guarded.Methods[i].Handler = s.guardUnary(s.method("/"+desc.ServiceName+"/"+m.MethodName), m.Handler)
	}
	for _, m := range desc.Streams {
		s.method("/" + desc.ServiceName + "/" + m.StreamName)
	}
	s.grpc.RegisterService(&guarded, impl)
}

func (s *Server) method(full string) *method {
	m := &method{full: full}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.methods[full] = m
	return m
}

// GetServiceInfo returns what was registered, as grpc.Server does.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo { return s.grpc.GetServiceInfo() }

// Serve accepts connections on lis until Stop or GracefulStop. It refuses to start, and closes lis, unless every
// registered method has a policy and every policy a registered method; the error says what to write where. It may be
// called for several listeners.
func (s *Server) Serve(lis net.Listener) error {
	s.start.Do(func() { s.err = errors.Join(s.err, s.compile()) })
	if s.err != nil {
		s.Stop()
		return errors.Join(fmt.Errorf("interceptors: the server does not start: %w", s.err), lis.Close())
	}
	return s.grpc.Serve(lis)
}

// compile proves that every method has a policy, and that the features are ready to do their part.
func (s *Server) compile() error {
	now := s.guard.state.Load()
	if now.bindings == nil {
		return errors.New("the guard was made without bindings: give interceptors.New a BindingsFile")
	}
	table, err := authz.Compile(s.grpc.GetServiceInfo(), nil, s.guard.options.allow, s.guard.options.annotations)
	if err != nil {
		return err
	}
	if err := s.guard.serveFeatures(table); err != nil {
		return err
	}
	for full, m := range s.methods {
		m.rule = table.Method(full)
	}
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	now = s.guard.state.Load()
	s.table = table
	s.snapshot.Store(&snapshot{state: now, policy: table.Bind(now.bindings)})
	return nil
}

// sweep takes a new state over and ends what it no longer allows.
func (s *Server) sweep(now *state, wall time.Time) {
	old := s.snapshot.Load()
	if old == nil {
		return // Serve has not been called
	}
	changed := old.state != now
	if changed {
		policy := old.policy
		if now.bindings != old.state.bindings {
			policy = s.table.Bind(now.bindings)
		}
		s.snapshot.Store(&snapshot{state: now, policy: policy})
	}
	for _, c := range s.connections() {
		expired := c.Tick(wall)
		if changed || expired {
			for _, g := range c.openStreams() {
				g.lookAgain()
			}
		} else if s.guard.users != nil || s.guard.proofs != nil {
			// What a token or the certificate of a signer says ends by itself.
			for _, g := range c.openStreams() {
				if g.call.user != nil || g.call.relayed() {
					g.lookAgain()
				}
			}
		}
		if expired {
			c.CloseAfter(closeDelay)
		}
	}
}

// Stop closes all connections at once. Handlers that are still running see their contexts end.
func (s *Server) Stop() {
	s.grpc.Stop()
	s.leave()
}

// GracefulStop accepts nothing new and waits until all calls have ended and their handlers have returned. Open streams
// end when their handlers or their callers end them; bound the wait with Stop.
func (s *Server) GracefulStop() {
	s.grpc.GracefulStop()
	s.handlers.Wait()
	s.leave()
}

func (s *Server) leave() {
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	s.guard.servers = slices.DeleteFunc(s.guard.servers, func(other *Server) bool { return other == s })
}
