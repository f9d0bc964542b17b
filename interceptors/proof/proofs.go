package proof

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/interceptors/internal/feature"
)

// proofs is the feature at work for one guard. Safe for concurrent use.
type proofs struct {
	cfg  Config
	pace pace
	env  feature.Env

	own    *ownKeys
	ring   *ring
	memory *memoryWindow                   // nil: Config.Window remembers
	quota  *memoryWindow                   // counts what is burned in databases
	mark   *mark                           // nil: there is none
	shown  atomic.Pointer[shownCredential] // another than the present one, of late

	conn    *grpc.ClientConn // of the key server; nil: there is none
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	metrics  metric.Registration
	verified [verdicts]atomic.Int64
	refused  [verdicts]atomic.Int64 // by the window
	receipts [2]atomic.Int64        // that came and did not hold, and did
}

var errClosed = errors.New("proof: the feature has been closed")

// start puts the feature to work. It waits for nobody.
func start(cfg Config, pace pace, env feature.Env) (*proofs, error) {
	p := &proofs{cfg: cfg, pace: pace, env: env}
	total := max(leastTotal, 4*cfg.PerSigner)
	p.quota = newMemoryWindow(cfg.PerSigner, total)
	if cfg.Window == nil {
		p.memory = newMemoryWindow(cfg.PerSigner, total)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	if err := p.begin(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *proofs) begin() error {
	p.own = newOwnKeys(p.env.Source, p.cfg.Target != "", p.env.Now)
	if p.memory != nil {
		if err := p.openWindow(); err != nil {
			return err
		}
	}
	var client keysv1.KeysServiceClient
	if p.cfg.Target != "" {
		// gRPC's own two minutes between attempts would leave a service that has come back unnoticed.
		again := backoff.Config{BaseDelay: p.pace.redial, Multiplier: 1.6, Jitter: 0.2, MaxDelay: p.pace.most}
		dial := func(target string, server spiffeid.ID, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
			return p.env.NewClient(target, server, append(opts, grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: p.pace.fetch}))...)
		}
		var err error
		if p.conn, err = dial(p.cfg.Target, p.cfg.Server); err != nil {
			return fmt.Errorf("client of the key server: %w", err)
		}
		client = keysv1.NewKeysServiceClient(p.conn)
		a := &announcer{ownKeys: p.own, client: client, dial: dial, target: p.cfg.Target, server: p.cfg.Server, pace: p.pace, log: p.env.Log}
		p.running.Go(func() { a.run(p.ctx) })
	}
	p.ring = newRing(p.ctx, p.env, client, p.pace, p.cfg.CacheSize)
	if w, ok := p.cfg.Window.(*sqlWindow); ok {
		p.running.Go(func() { w.prune(p.ctx, p.env.Now, p.env.Log) })
	}
	if err := p.observe(); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// openWindow tells the window in memory what may have been accepted before it was made.
func (p *proofs) openWindow() error {
	now := p.env.Now()
	// A proof may be dated ahead by the leeway.
	after := now.Add(p.cfg.Leeway).Unix()
	if p.cfg.MarkFile == "" {
		p.memory.open(nil, after)
		return nil
	}
	m, err := openMark(p.cfg.MarkFile, after, p.pace.lock)
	if err != nil {
		return err
	}
	p.mark = m
	through := m.through.Load()
	p.memory.open(m, through)
	if ahead := time.Unix(through, 0).Sub(now); ahead > maxLife+maxLeeway {
		p.env.Log.Warn("the mark of accepted proofs is ahead of the clock: until then all proofs are refused as expired; if the clock was wrong when it was written, remove the file and start again",
			"file", p.cfg.MarkFile, "until", time.Unix(through, 0).UTC().Format(time.RFC3339))
	}
	return nil
}

// Serve implements feature.Serving.
func (p *proofs) Serve(methods []feature.Method) error {
	if _, err := p.own.get(); err != nil && len(methods) > 0 {
		return fmt.Errorf("proof: answers are signed: %w", err)
	}
	return nil
}

// Close implements feature.Running.
func (p *proofs) Close() error {
	p.cancel()
	p.running.Wait()
	if p.ring != nil {
		p.ring.close()
	}
	var err error
	if p.metrics != nil {
		err = p.metrics.Unregister()
	}
	if p.mark != nil {
		err = errors.Join(err, p.mark.close())
	}
	if p.conn != nil {
		err = errors.Join(err, p.conn.Close())
	}
	return err
}

var (
	_ feature.Proofs  = (*proofs)(nil)
	_ feature.Serving = (*proofs)(nil)
	_ feature.Calling = (*proofs)(nil)
)
