package authority_test

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
)

// roleOf is the role that each method asks of whoever calls it; "": any workload may call it, and what it asks for decides.
var roleOf = map[protoreflect.Name]string{
	"IssueCertificate": "", "IssueJwtSvid": "", "Join": "", "GetBundle": "", "WatchBundle": "",
	"ReportTrust":     "authority.requester",
	"GetTrustReports": "authority.admin", "ListIssuers": "authority.admin", "PrepareIssuer": "authority.admin",
	"ActivateIssuer": "authority.admin", "RevokeIssuer": "authority.admin",
}

// Every method, called by every kind of caller with an empty request: none is left over, and the role alone opens it.
func TestEveryMethodAsksForItsRole(t *testing.T) {
	t.Parallel()
	r := openOwn(t)                 // an empty PrepareIssuer is a good one
	callers := map[string][]string{ // and the roles of each
		"/service/ledger": nil, "/operator/carol": nil, "/join/host2": nil,
		"/service/agent": {"authority.requester"}, "/agent/host2": {"authority.requester"}, "/operator/alice": {"authority.admin"},
	}
	methods := authorityv1.File_authority_v1_authority_proto.Services().ByName("AuthorityService").Methods()
	if methods.Len() != len(roleOf) {
		t.Errorf("the service has %d methods, the table %d", methods.Len(), len(roleOf))
	}
	for path, roles := range callers {
		conn := r.conn(t, r.caller(t, path))
		for i := range methods.Len() {
			method := methods.Get(i)
			role, known := roleOf[method.Name()]
			if !known {
				t.Errorf("%s is not in the table", method.Name())
			}
			err := callEmpty(within(t), conn, method)
			refused := verdict(err) == "PermissionDenied ROLE_REQUIRED"
			if want := role != "" && !slices.Contains(roles, role); refused != want {
				t.Errorf("%s calls %s: got %v, want a refusal for its role: %v", path, method.Name(), err, want)
			}
		}
	}
}

// callEmpty sends an empty request and reads one response.
func callEmpty(ctx context.Context, conn *grpc.ClientConn, method protoreflect.MethodDescriptor) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	full := "/" + string(method.Parent().FullName()) + "/" + string(method.Name())
	request, response := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if !method.IsStreamingServer() {
		return conn.Invoke(ctx, full, request, response)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, full)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(response)
}
