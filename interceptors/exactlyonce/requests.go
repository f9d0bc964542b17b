package exactlyonce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/rolecall/interceptors/internal/feature"
)

// prepareTimeout bounds the making of the tables.
const prepareTimeout = 30 * time.Second

// Requests is the feature of one guard. The service also asks it what came of a request: Find, Cancel. Safe for concurrent use.
type Requests struct {
	config Config
	wrong  error // of the configuration
	now    func() time.Time
	log    *slog.Logger
	rows   *rows
	counts counts
	every  time.Duration // between two looks for sagas that nobody runs

	mu     sync.Mutex
	begun  bool // Start was called
	serves bool // Serve was called
	sagas  map[string]*resumption
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// New makes the feature, to be given to one guard with interceptors.With. What is wrong with the configuration is reported when
// the guard is made. The database is first needed when the server starts.
func New(config Config) *Requests {
	config, err := config.withDefaults()
	return &Requests{
		config: config, wrong: err, now: time.Now, log: slog.New(slog.DiscardHandler),
		rows: newRows(config.MaxRows), sagas: make(map[string]*resumption), stop: func() {},
		every: min(max(config.Lease/10, 10*time.Millisecond), time.Second),
	}
}

// Annotations implements interceptors.Feature.
func (*Requests) Annotations() []string { return []string{"exactly_once"} }

// Start implements interceptors.Feature.
func (r *Requests) Start(env feature.Env) (feature.Running, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wrong != nil {
		return nil, r.wrong
	}
	if r.begun {
		return nil, errors.New("exactlyonce: the feature was given to two guards: make one for each")
	}
	r.begun = true
	if env.Meters != nil {
		if err := r.counts.observe(env.Meters); err != nil {
			return nil, fmt.Errorf("exactlyonce: %w", err)
		}
	}
	if env.Now != nil {
		r.now = env.Now
	}
	if env.Log != nil {
		r.log = env.Log
	}
	return enforcer{r}, nil
}

// enforcer is the feature at work, as the guard calls it.
type enforcer struct{ *Requests }

var (
	_ feature.Once    = enforcer{}
	_ feature.Serving = enforcer{}
)

// Serve makes the tables, and starts what goes on in the background: pruning, and sagas that were left behind.
func (r enforcer) Serve(methods []feature.Method) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	once := make(map[string]bool)
	for _, m := range methods {
		if m.ClientStream || m.ServerStream {
			return fmt.Errorf("%s: exactly_once is for unary methods: a stream has no one response to store", m.Full)
		}
		once[m.Full] = true
	}
	if r.serves {
		return nil
	}
	for method, s := range r.sagas {
		if !once[method] {
			return fmt.Errorf("%s was given to exactlyonce.OnResume, and is no method of the server with exactly_once", method)
		}
		if secret := secretIn(s.request, make(map[protoreflect.FullName]bool)); secret != "" {
			return fmt.Errorf("%s: the request of a saga is stored while it runs, and %s is marked debug_redact: use the local form, or take the field out", method, secret)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), prepareTimeout)
	defer cancel()
	if err := r.write(ctx, createTables); err != nil {
		return fmt.Errorf("prepare the database for exactly_once: %w", err)
	}
	r.serves = true
	r.tellOfOrphans(ctx)
	background, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.work.Go(func() { r.prune(background) })
	if len(r.sagas) > 0 {
		r.work.Go(func() { r.takeOver(background) })
	}
	return nil
}

// Close ends what goes on in the background, and waits for it. It comes before the database is closed.
func (r enforcer) Close() error {
	r.mu.Lock()
	r.stop()
	r.mu.Unlock()
	r.work.Wait()
	return r.counts.close()
}

// Do implements feature.Once.
func (r enforcer) Do(ctx context.Context, call *feature.OnceCall, run func(context.Context) (proto.Message, error)) ([]byte, feature.Verdict, string, error) {
	a := r.do(ctx, call, run)
	r.counts.count(a)
	feature.SetPushback(ctx, a.retry)
	return a.response, a.verdict, a.detail, a.err
}

func (r *Requests) do(ctx context.Context, call *feature.OnceCall, run func(context.Context) (proto.Message, error)) answer {
	id, ok := requestIDOf(call.Message)
	if !ok {
		return answer{verdict: feature.NoRequestID, detail: "request_id is not a UUID of 36 characters"}
	}
	key := Key{Method: call.Method, Peer: call.Peer, Signer: call.Signer, User: call.User, RequestID: id}
	payload, err := payloadOf(call.Message)
	if err != nil {
		return answer{err: status.Error(codes.InvalidArgument, "the request cannot be encoded")}
	}
	q := &request{key: key, sum: key.sum(), payload: payload, message: call.Message, proof: call.Proof}
	if r.isSaga(call.Method) {
		return r.saga(ctx, q, run)
	}
	return r.local(ctx, q, run)
}

func (r *Requests) isSaga(method string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sagas[method] != nil
}
