package agentd

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki/agent"
)

// reportDelay is how long a change waits for others, and at random twice as long at most, before it is reported: a new bundle
// reaches many streams, and many agents, in a moment.
const reportDelay = time.Second

// report tells the authority which bundle was handed to whom, after each change and at each refresh hint, until ctx ends.
// At each hint it also asks for the bundle, whatever the stream of bundles says: a message that was lost is made up for.
func (a *authority) report(ctx context.Context, server *agent.Server) {
	failing := false
	asked := time.Now()
	for ctx.Err() == nil {
		_, _, hint := a.bundle.present()
		// Not later than the hint, however much is reported meanwhile.
		wait := max(0, hint-hint/10+rand.N(hint/10+1)-time.Since(asked))
		if failing {
			wait = min(wait, lastRetry/2+rand.N(lastRetry))
		}
		hinted := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-server.Changed():
			pause(ctx, reportDelay+rand.N(reportDelay))
		case <-a.bundle.changed:
			pause(ctx, reportDelay+rand.N(reportDelay))
		case <-hinted.C:
		}
		if time.Since(asked) >= hint-hint/10 {
			a.refresh(ctx)
			asked = time.Now()
		}
		hinted.Stop()
		if ctx.Err() != nil {
			return
		}
		err := a.reportOnce(ctx, server)
		if err != nil && !failing && ctx.Err() == nil {
			a.log.Warn("what was handed out could not be reported; trying again", "error", err)
		}
		failing = err != nil && status.Code(err) != codes.PermissionDenied // which a retry does not repair
	}
}

// refresh asks for the bundle.
func (a *authority) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	response, err := a.client.GetBundle(ctx, &authorityv1.GetBundleRequest{}, grpc.WaitForReady(true))
	if err == nil {
		a.take(response.GetBundle())
	}
}

func (a *authority) reportOnce(ctx context.Context, server *agent.Server) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	sequence, digest, _ := a.bundle.present()
	request := &authorityv1.ReportTrustRequest{Sequence: sequence, Digest: digest[:]}
	for _, handed := range server.HandedOut() {
		request.HandedOut = append(request.HandedOut, &authorityv1.HandedOut{
			SpiffeId: handed.ID.String(), Digest: handed.Digest[:], Streams: int32(handed.Streams)})
	}
	_, err := a.client.ReportTrust(ctx, request, grpc.WaitForReady(true))
	return err
}
