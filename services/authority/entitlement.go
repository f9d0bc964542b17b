package authority

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// requester is the role that asks for certificates of others.
const requester = "authority.requester"

// reserved are the first segments of paths that no requester is given, whatever is configured: people, join tickets, and
// agents, since whoever could make himself another agent would have what that one is registered for.
var reserved = []string{"operator", "join", "agent"}

// localAgent is the path of the agent beside the authority in `rolecall up` (catalog.ID). It is reserved too: whoever is that
// agent can say in its name who has heard of a new root.
const localAgent = "/service/agent"

// entitlement says which identities and names one requester may ask for. Immutable.
type entitlement struct {
	allow [][]string // segments of paths
	dns   []string
	ips   []netip.Prefix // beside loopback
}

// newEntitlement checks what an operator wrote.
func newEntitlement(allow, dns, ips []string) (*entitlement, error) {
	e := &entitlement{dns: dns}
	for _, pattern := range allow {
		segments, err := parsePath(pattern)
		if err != nil {
			return nil, fmt.Errorf("allowed identity %q: %w", pattern, err)
		}
		e.allow = append(e.allow, segments)
	}
	for _, pattern := range dns {
		if err := checkDNSPattern(pattern); err != nil {
			return nil, fmt.Errorf("allowed DNS name %q: %w", pattern, err)
		}
	}
	for _, text := range ips {
		prefix, err := parsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("allowed IP addresses %q: %w", text, err)
		}
		e.ips = append(e.ips, prefix)
	}
	return e, nil
}

// parsePath reads a path in which "*" is one whole segment.
func parsePath(pattern string) ([]string, error) {
	path, rooted := strings.CutPrefix(pattern, "/")
	segments := strings.Split(path, "/")
	if !rooted || slices.Contains(segments, "") {
		return nil, fmt.Errorf("a path such as /service/* is needed")
	}
	for _, segment := range segments {
		if segment != "*" && strings.Contains(segment, "*") {
			return nil, fmt.Errorf("\"*\" stands for one whole segment")
		}
		if segment != "*" && spiffeid.ValidatePathSegment(segment) != nil {
			return nil, fmt.Errorf("no SPIFFE ID has the segment %q", segment)
		}
	}
	if pattern == localAgent {
		return nil, fmt.Errorf("%s is the agent beside the authority, and its files are issued with the authority's folder at hand", localAgent)
	}
	if slices.Contains(reserved, segments[0]) {
		return nil, fmt.Errorf("identities of /%s are never given out on request: operators' files and join tickets are issued with the authority's folder at hand, and agents join", segments[0])
	}
	return segments, nil
}

// checkDNSPattern accepts a lower-case host name, or "*." and one.
func checkDNSPattern(pattern string) error {
	for label := range strings.SplitSeq(strings.TrimPrefix(pattern, "*."), ".") {
		if label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("a host name in lower case is needed; a leading \"*.\" stands for one label")
		}
	}
	return nil
}

// parsePrefix reads 10.0.0.0/24, or one address.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("an address or a network such as 10.0.0.0/24 is needed")
	}
	if prefix != prefix.Masked() {
		return netip.Prefix{}, fmt.Errorf("bits are set behind the prefix: write %s", prefix.Masked())
	}
	return prefix, nil
}

// checkID refuses identities that the requester may not ask for; field is where the request names them. A nil entitlement
// allows nothing.
func (e *entitlement) checkID(own, id spiffeid.ID, field string) error {
	if e == nil || id == own || isReserved(id) || !e.allows(id) {
		return interceptors.InvalidField(field, fmt.Sprintf("%s is not an identity that requesters may ask for", id))
	}
	return nil
}

// checkNames refuses names that the requester may not ask for, of an identity that he may.
func (e *entitlement) checkNames(request *pki.Request) error {
	for _, name := range request.DNSNames {
		if !e.allowsDNS(request.ID, name) {
			return interceptors.InvalidField("csr", fmt.Sprintf("%s may not have the DNS name %s", request.ID, name))
		}
	}
	for _, ip := range request.IPAddresses {
		if !e.allowsIP(ip) {
			return interceptors.InvalidField("csr", fmt.Sprintf("%s may not have the IP address %s", request.ID, ip))
		}
	}
	return nil
}

func isReserved(id spiffeid.ID) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(id.Path(), "/"), "/")
	return id.Path() == localAgent || slices.Contains(reserved, first)
}

func (e *entitlement) allows(id spiffeid.ID) bool {
	segments := strings.Split(strings.TrimPrefix(id.Path(), "/"), "/")
	return slices.ContainsFunc(e.allow, func(pattern []string) bool {
		return slices.EqualFunc(pattern, segments, func(want, segment string) bool { return want == "*" || want == segment })
	})
}

// allowsDNS accepts the names under which /service/NAME is found: localhost, NAME, NAME.TRUST-DOMAIN and configured ones.
// A NAME with dots in it is no label: it could be any host of the world.
func (e *entitlement) allowsDNS(id spiffeid.ID, name string) bool {
	if name == "localhost" {
		return true
	}
	if service, ok := strings.CutPrefix(id.Path(), "/service/"); ok && !strings.ContainsAny(service, "/.") {
		if name == service || name == service+"."+id.TrustDomain().Name() {
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

func (e *entitlement) allowsIP(ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false
	}
	addr = addr.Unmap()
	return addr.IsLoopback() || slices.ContainsFunc(e.ips, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// entitle decides whether a caller may have something signed for an identity: its own, or one that its role and its
// registration allow. It returns the caller's entitlement, nil for the own identity.
func (a *Authority) entitle(caller interceptors.Caller, id spiffeid.ID, field string) (*entitlement, error) {
	if isTicket(caller.ID()) {
		return nil, interceptors.InvalidField(field, "a join ticket is good for Join and nothing else")
	}
	if caller.ID() == id {
		return nil, nil
	}
	if caller.ID().IsZero() {
		return nil, status.Error(codes.Internal, "the call has no caller")
	}
	if err := caller.Require(requester); err != nil {
		return nil, err
	}
	registered := a.registrations.Load()
	if registered.requesters[id] != nil {
		return nil, interceptors.InvalidField(field, fmt.Sprintf("%s is a requester itself, and no requester is given to another", id))
	}
	e := registered.of(caller.ID())
	return e, e.checkID(a.id, id, field)
}
