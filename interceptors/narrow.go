package interceptors

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/feature"
)

// Narrow gives up roles for the calls made with the returned context: the next server lets the caller have only those
// of its roles that are named, or included in a named one. Without names it has none. Narrowing what was narrowed leaves
// what both name. It ends at the next server, which does not pass it on.
func Narrow(ctx context.Context, roles ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, feature.SubsetKey, strings.Join(roles, " "))
}

// subset returns the roles that all values allow. A value is a list separated by spaces, as an OAuth 2.0 scope is
// (RFC 6749 §3.3); a name that is not known gives nothing, so that a list which something on the way joined with a comma
// gives less and never more.
func (s *Server) subset(values []string) authz.Set {
	set := s.table.Closure(strings.Fields(values[0]))
	for _, value := range values[1:] {
		set = set.And(s.table.Closure(strings.Fields(value)))
	}
	return set
}
