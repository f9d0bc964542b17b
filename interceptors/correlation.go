package interceptors

import (
	"context"
	"regexp"

	"google.golang.org/grpc/metadata"
)

var (
	// W3C Trace Context §3.2: version, trace id, parent id, flags.
	traceparent = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}`)
	requestID   = regexp.MustCompile(`^[0-9A-Za-z._:/+=-]{1,128}$`)
)

// correlation returns the request id and the trace id that a caller sent along, if they look like ones. They help to
// find records that belong together and prove nothing.
func correlation(ctx context.Context) (request, trace string) {
	if v := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(v) == 1 && requestID.MatchString(v[0]) {
		request = v[0]
	}
	if v := metadata.ValueFromIncomingContext(ctx, "traceparent"); len(v) == 1 {
		if m := traceparent.FindStringSubmatch(v[0]); m != nil {
			trace = m[1]
		}
	}
	return request, trace
}
