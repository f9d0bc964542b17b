package pki

import (
	"fmt"
	"net"
	"strings"
)

// Bounds of the names in one certificate.
const (
	maxDNSNames    = 32
	maxIPAddresses = 16
)

// checkNames refuses DNS names and IP addresses that do not belong in a certificate, duplicates and too many.
func checkNames(dns []string, ips []net.IP) error {
	if len(dns) > maxDNSNames || len(ips) > maxIPAddresses {
		return fmt.Errorf("%d DNS names and %d IP addresses: at most %d and %d are signed", len(dns), len(ips), maxDNSNames, maxIPAddresses)
	}
	seen := map[string]bool{}
	for _, name := range dns {
		if err := checkDNSName(name); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("DNS name %q occurs twice", name)
		}
		seen[name] = true
	}
	for _, ip := range ips {
		text := ip.String()
		if ip.To16() == nil || ip.IsUnspecified() || ip.IsMulticast() {
			return fmt.Errorf("IP address %q cannot be that of a server", text)
		}
		if seen[text] {
			return fmt.Errorf("IP address %q occurs twice", text)
		}
		seen[text] = true
	}
	return nil
}

// checkDNSName accepts lower-case host names of letters, digits, hyphens and dots (RFC 1123 §2.1). There are no wildcards:
// a certificate speaks for one workload.
func checkDNSName(name string) error {
	bad := func(why string) error { return fmt.Errorf("DNS name %q %s", name, why) }
	if len(name) == 0 || len(name) > 253 {
		return bad("is empty or longer than 253 characters")
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 {
			return bad("has an empty label or one longer than 63 characters")
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return bad("has a label that starts or ends with a hyphen")
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return bad("has a character other than a-z, 0-9, hyphen and dot")
			}
		}
	}
	if net.ParseIP(name) != nil {
		return bad("is an IP address")
	}
	return nil
}
