package agent

import (
	"context"
	"maps"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"example.com/rolecall/pki"
)

// maxToken is the size of the largest JWT-SVID that is read, in bytes.
const maxToken = 16 << 10

// FetchJWTSVID returns a JWT-SVID for the audience, for each identity of the caller or the one it asks for (Workload API
// §6.2.1).
func (w workloadAPI) FetchJWTSVID(ctx context.Context, r *workload.JWTSVIDRequest) (*workload.JWTSVIDResponse, error) {
	s := w.server
	if s.config.JWT == nil {
		return nil, status.Error(codes.Unimplemented, "this agent issues no JWT-SVIDs")
	}
	if err := checkAudiences(r.GetAudience()...); err != nil {
		return nil, err
	}
	var wanted spiffeid.ID
	if r.GetSpiffeId() != "" {
		var err error
		if wanted, err = spiffeid.FromString(r.GetSpiffeId()); err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "spiffe_id: %v", err)
		}
	}
	var response *workload.JWTSVIDResponse
	err := s.asWorkload(ctx, func(p peer, all []names) error {
		var ids []spiffeid.ID
		for _, n := range all {
			if wanted.IsZero() || n.id == wanted {
				ids = append(ids, n.id)
			}
		}
		if len(ids) == 0 {
			s.logRefused(p, "a JWT-SVID was asked for an identity that the process has not", "id", wanted)
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		signed, err := s.tokens.of(ctx, p.uid, ids, r.GetAudience())
		if err != nil {
			return err
		}
		response = &workload.JWTSVIDResponse{Svids: signed}
		return nil
	})
	return response, err
}

// FetchJWTBundles streams the keys of JWT-SVIDs of the own trust domain and of federated ones (§6.2.2).
func (w workloadAPI) FetchJWTBundles(_ *workload.JWTBundlesRequest, stream grpc.ServerStreamingServer[workload.JWTBundlesResponse]) error {
	return follow(stream.Context(), w.server, jwtStream, func(t *trust, _ []*svid) (*workload.JWTBundlesResponse, bool) {
		if t.keys == nil {
			return nil, false
		}
		bundles := maps.Clone(t.federatedJWT)
		if bundles == nil {
			bundles = map[string][]byte{}
		}
		bundles[t.domain.IDString()] = t.keys
		return &workload.JWTBundlesResponse{Bundles: bundles}, true
	}, stream.Send)
}

// ValidateJWTSVID checks a JWT-SVID for the audience, by the keys that FetchJWTBundles hands out (§6.2.3).
func (w workloadAPI) ValidateJWTSVID(ctx context.Context, r *workload.ValidateJWTSVIDRequest) (*workload.ValidateJWTSVIDResponse, error) {
	if err := checkAudiences(r.GetAudience()); err != nil {
		return nil, err
	}
	if r.GetSvid() == "" || len(r.GetSvid()) > maxToken {
		return nil, status.Errorf(codes.InvalidArgument, "svid has %d bytes: 1 to %d are read", len(r.GetSvid()), maxToken)
	}
	var response *workload.ValidateJWTSVIDResponse
	err := w.server.asWorkload(ctx, func(peer, []names) error {
		token, err := jwtsvid.ParseAndValidate(r.GetSvid(), w.server.trust.Load(), []string{r.GetAudience()})
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "%v", err)
		}
		claims, err := structpb.NewStruct(token.Claims)
		if err != nil {
			return status.Errorf(codes.InvalidArgument, "claims: %v", err)
		}
		response = &workload.ValidateJWTSVIDResponse{SpiffeId: token.ID.String(), Claims: claims}
		return nil
	})
	return response, err
}

// asWorkload answers one call of a process that has identities, and of no other.
func (s *Server) asWorkload(ctx context.Context, answer func(peer, []names) error) error {
	info, ok := peerFrom(ctx)
	if !ok {
		return status.Error(codes.PermissionDenied, "the kernel did not say who calls")
	}
	p := info.peer
	if err := s.streams.admit(p); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer s.streams.release(p)
	st := s.subjects.open(p, call, s.registry)
	defer s.subjects.close(st)
	for found, _, err := s.known(ctx, st); ; found, _, err = s.look(ctx, st) {
		if err != nil {
			return s.refused(ctx, p, err)
		}
		if err := answer(p, found); err != nil {
			return err
		}
		if err := p.alive(); err != nil { // whoever has the pid now is not who asked
			return s.refused(ctx, p, err)
		}
		select {
		case <-st.wake: // who was entitled when a token was asked for may not be now
		default:
			return nil
		}
	}
}

func checkAudiences(audience ...string) error {
	if len(audience) == 0 || len(audience) > pki.MaxAudiences {
		return status.Errorf(codes.InvalidArgument, "%d audiences: 1 to %d are needed", len(audience), pki.MaxAudiences)
	}
	for _, a := range audience {
		if a == "" || len(a) > pki.MaxAudienceSize {
			return status.Errorf(codes.InvalidArgument, "an audience of %d bytes: 1 to %d are needed", len(a), pki.MaxAudienceSize)
		}
	}
	return nil
}
