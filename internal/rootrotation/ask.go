package rootrotation

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"google.golang.org/grpc"

	adminv1 "example.com/rolecall/gen/rolecall/admin/v1"
	"example.com/rolecall/interceptors"
)

// answer is what one server said for itself.
type answer struct {
	peer Peer
	// trusts tells whether it names the new root among those that it verifies peers with.
	trusts bool
	// asked is why it could not be asked at all; nil: it was.
	asked error
	// probed is why it and the probe did not talk; nil: they did, with nothing but the new root.
	probed error
}

// askAll asks every server, all at once: first with the probe, and one that does not talk to it with the operator's own
// certificate, to learn why. A nil prober leaves the probe out.
func askAll(ctx context.Context, peers []Peer, plain, prober *interceptors.Guard, root *x509.Certificate) []answer {
	answers := make([]answer, len(peers))
	var asking sync.WaitGroup
	for i, p := range peers {
		asking.Go(func() { answers[i] = ask(ctx, p, plain, prober, root) })
	}
	asking.Wait()
	return answers
}

func ask(ctx context.Context, p Peer, plain, prober *interceptors.Guard, root *x509.Certificate) answer {
	a := answer{peer: p}
	if prober != nil {
		if a.trusts, a.probed = trusts(ctx, prober, p, root); a.probed == nil {
			return a
		}
	}
	a.trusts, a.asked = trusts(ctx, plain, p, root)
	return a
}

// trusts asks one server whether it verifies its peers with the root.
func trusts(ctx context.Context, guard *interceptors.Guard, p Peer, root *x509.Certificate) (yes bool, err error) {
	err = with(guard, p, func(conn *grpc.ClientConn) error {
		said, err := adminv1.NewAdminServiceClient(conn).GetTrust(ctx, &adminv1.GetTrustRequest{})
		if err != nil {
			return err
		}
		want := sum(root)
		for _, sha256 := range said.GetRootSha256() {
			yes = yes || bytes.Equal(sha256, want)
		}
		return nil
	})
	return yes, err
}

// each returns one peer for each address that the target of a peer stands for: gRPC would ask only one of them, and the
// others are servers of their own.
func each(ctx context.Context, peers []Peer) ([]Peer, error) {
	var all []Peer
	for _, p := range peers {
		rest, isDNS := strings.CutPrefix(p.Target, "dns:///")
		if !isDNS {
			if err := checkOneAddress(p); err != nil {
				return nil, err
			}
			all = append(all, p)
			continue
		}
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			return nil, fmt.Errorf("target %s of %s: the form is dns:///HOST:PORT: %w", p.Target, p.ID, err)
		}
		addresses, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("look up %s: %w", p.ID, err)
		}
		for _, address := range distinct(host, addresses) {
			one := p
			one.Target = "passthrough:///" + net.JoinHostPort(address, port)
			all = append(all, one)
		}
	}
	return all, nil
}

// checkOneAddress refuses a target that gRPC would look up by itself: it would ask one of several servers, and the answer
// of that one would stand for all.
func checkOneAddress(p Peer) error {
	if strings.HasPrefix(p.Target, "unix:") {
		return nil
	}
	if _, err := netip.ParseAddrPort(strings.TrimPrefix(p.Target, "passthrough:///")); err == nil {
		return nil
	}
	return fmt.Errorf("target %s of %s: write dns:///HOST:PORT, so that every address of it is asked, or IP:PORT", p.Target, p.ID)
}

// distinct keeps the IPv4 addresses of localhost alone: a server that listens on one of the two loopbacks is not another
// server on the other. Everywhere else an address that does not answer is a server that was not asked.
func distinct(host string, addresses []string) []string {
	if host != "localhost" {
		return addresses
	}
	for _, a := range addresses {
		if ip := net.ParseIP(a); ip != nil && ip.To4() != nil {
			return []string{a}
		}
	}
	return addresses
}
