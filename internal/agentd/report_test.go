//go:build linux || darwin

package agentd

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki/agent"
	"example.com/rolecall/rolecalltest"
)

// deskClient is an authority that notes when it is asked for the bundle and when reports come.
type deskClient struct {
	authorityv1.AuthorityServiceClient

	mu      sync.Mutex
	asked   []time.Time
	reports []time.Time
}

func (d *deskClient) GetBundle(context.Context, *authorityv1.GetBundleRequest, ...grpc.CallOption) (*authorityv1.GetBundleResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, time.Now())
	return &authorityv1.GetBundleResponse{}, nil
}

func (d *deskClient) ReportTrust(context.Context, *authorityv1.ReportTrustRequest, ...grpc.CallOption) (*authorityv1.ReportTrustResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reports = append(d.reports, time.Now())
	return &authorityv1.ReportTrustResponse{}, nil
}

// reporting runs the reports of one more agent to the desk, until stop is called, and returns what tells it of a change.
func reporting(t *testing.T, ca *rolecalltest.CA, desk *deskClient) (changed chan<- struct{}, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentd") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	discard := slog.New(slog.DiscardHandler)
	k := &bundleKeeper{log: discard, changed: make(chan struct{}, 1), roots: ca.Bundle(), hint: firstHint}
	a := &authority{client: desk, bundle: k, log: discard}
	server, err := agent.New(agent.Config{TrustDomain: ca.TrustDomain(), Bundle: ca.Bundle(), Signer: a,
		Socket: filepath.Join(dir, "agent.sock"), Control: filepath.Join(dir, "control.sock")})
	if err != nil {
		t.Fatal(err)
	}
	<-server.Changed() // of the first roots
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.report(ctx, server) })
	return k.changed, func() {
		cancel()
		running.Wait()
		ended, end := context.WithCancel(context.Background())
		end()
		_ = server.Serve(ended) // closes the sockets
		_ = os.RemoveAll(dir)
	}
}

func TestTheBundleIsAskedForAtEachHintHoweverMuchIsReported(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	synctest.Test(t, func(t *testing.T) {
		desk := &deskClient{}
		changed, stop := reporting(t, ca, desk)
		last := time.Now()
		for _, pace := range []time.Duration{300 * time.Millisecond, 40 * time.Second} {
			for began := time.Now(); time.Since(began) < 30*time.Minute; time.Sleep(pace) {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
		}
		stop()
		for _, at := range desk.asked {
			if gap := at.Sub(last); gap > firstHint+2*reportDelay || gap < firstHint/2 {
				t.Errorf("asked %s after the time before, want one minute, and the delay of a report at most", gap)
			}
			last = at
		}
		if len(desk.asked) < 55 || len(desk.reports) < 1000 {
			t.Errorf("asked %d times in an hour of changes with %d reports, want once a minute", len(desk.asked), len(desk.reports))
		}
	})
}

func TestTheReportsOfManyAgentsDoNotComeAtTheSameInstant(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	synctest.Test(t, func(t *testing.T) {
		desk := &deskClient{}
		const agents = 20
		var all []chan<- struct{}
		for range agents {
			changed, stop := reporting(t, ca, desk)
			defer stop()
			all = append(all, changed)
		}
		synctest.Wait()
		said := time.Now()
		for _, changed := range all {
			changed <- struct{}{}
		}
		time.Sleep(3 * reportDelay)
		synctest.Wait()
		desk.mu.Lock()
		defer desk.mu.Unlock()
		moments := map[time.Time]bool{}
		for _, at := range desk.reports {
			moments[at] = true
			if after := at.Sub(said); after < reportDelay || after > 2*reportDelay {
				t.Errorf("a report %s after the change, want one to two seconds", after)
			}
		}
		if len(desk.reports) != agents || len(moments) < agents/2 {
			t.Errorf("%d reports at %d moments, want %d spread over a second", len(desk.reports), len(moments), agents)
		}
	})
}
