package authority

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// requester is the role that asks for certificates of others.
const requester = "authority.requester"

// operators is where the IDs of people lie: no requester is given one, whatever is configured.
const operators = "/operator/"

// entitlement says which names a requester may ask for. Immutable.
type entitlement struct {
	td    spiffeid.TrustDomain
	own   spiffeid.ID
	allow [][]string // segments of paths
	dns   []string
}

func newEntitlement(td spiffeid.TrustDomain, own spiffeid.ID, allow, dns []string) (entitlement, error) {
	if len(allow) == 0 {
		allow = []string{"/service/*"}
	}
	e := entitlement{td: td, own: own, dns: dns}
	for _, pattern := range allow {
		path, rooted := strings.CutPrefix(pattern, "/")
		segments := strings.Split(path, "/")
		if !rooted || slices.Contains(segments, "") {
			return entitlement{}, fmt.Errorf("allowed identity %q: a path such as /service/* is needed", pattern)
		}
		for _, segment := range segments {
			if segment != "*" && strings.Contains(segment, "*") {
				return entitlement{}, fmt.Errorf("allowed identity %q: \"*\" stands for one whole segment", pattern)
			}
		}
		if strings.HasPrefix(pattern+"/", operators) {
			return entitlement{}, fmt.Errorf("allowed identity %q: operators are never given out on request; issue their files with the root at hand", pattern)
		}
		e.allow = append(e.allow, segments)
	}
	return e, nil
}

// check refuses a request of somebody for an identity that is not his own.
func (e entitlement) check(caller interceptors.Caller, request *pki.Request) error {
	if err := caller.Require(requester); err != nil {
		return err
	}
	if request.ID == e.own || strings.HasPrefix(request.ID.Path()+"/", operators) || !e.allows(request.ID) {
		return interceptors.InvalidField("csr", fmt.Sprintf("%s is not an identity that requesters may ask for", request.ID))
	}
	for _, name := range request.DNSNames {
		if !e.allowsDNS(request.ID, name) {
			return interceptors.InvalidField("csr", fmt.Sprintf("%s may not have the DNS name %s", request.ID, name))
		}
	}
	for _, ip := range request.IPAddresses {
		if !ip.IsLoopback() {
			return interceptors.InvalidField("csr", fmt.Sprintf("%s may not have the IP address %s, only loopback ones", request.ID, ip))
		}
	}
	return nil
}

func (e entitlement) allows(id spiffeid.ID) bool {
	segments := strings.Split(strings.TrimPrefix(id.Path(), "/"), "/")
	return slices.ContainsFunc(e.allow, func(pattern []string) bool {
		return slices.EqualFunc(pattern, segments, func(want, segment string) bool { return want == "*" || want == segment })
	})
}

// allowsDNS accepts the names under which /service/NAME is found: localhost, NAME, NAME.TRUST-DOMAIN and configured ones.
func (e entitlement) allowsDNS(id spiffeid.ID, name string) bool {
	if name == "localhost" {
		return true
	}
	if service, ok := strings.CutPrefix(id.Path(), "/service/"); ok && !strings.Contains(service, "/") {
		if name == service || name == service+"."+e.td.Name() {
			return true
		}
	}
	return slices.ContainsFunc(e.dns, func(pattern string) bool {
		suffix, wild := strings.CutPrefix(pattern, "*.")
		if !wild {
			return name == pattern
		}
		label, rest, found := strings.Cut(name, ".")
		return found && label != "" && rest == suffix
	})
}

// checkRenewal lets a workload renew its own identity: over a new key, and with no name that its present certificate,
// which the connection was made with, has not.
func checkRenewal(ctx context.Context, request *pki.Request) error {
	present := peerCertificate(ctx)
	if present == nil {
		return status.Error(codes.Internal, "the connection has no certificate")
	}
	if key, ok := present.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || key.Equal(request.PublicKey) {
		return interceptors.InvalidField("csr", "a renewal needs a new key")
	}
	for _, name := range request.DNSNames {
		if !slices.Contains(present.DNSNames, name) {
			return interceptors.InvalidField("csr", fmt.Sprintf("the present certificate of %s has not the DNS name %s", request.ID, name))
		}
	}
	for _, ip := range request.IPAddresses {
		if !slices.ContainsFunc(present.IPAddresses, func(has net.IP) bool { return has.Equal(ip) }) {
			return interceptors.InvalidField("csr", fmt.Sprintf("the present certificate of %s has not the IP address %s", request.ID, ip))
		}
	}
	return nil
}

// peerCertificate returns the certificate of the connection, which the guard has verified.
func peerCertificate(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}
