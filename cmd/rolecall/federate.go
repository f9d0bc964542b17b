package main

import (
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
)

// federateUsage describes the flag --federate.
const federateUsage = "TRUST-DOMAIN=FILE of another trust domain whose workloads are known too, its bundle in a file that is watched; " +
	"or TRUST-DOMAIN=FILE,https://HOST:PORT/PATH,SPIFFE-ID, where FILE is the bundle to begin with and SPIFFE-ID that of its bundle endpoint; once for each"

// federation is another trust domain and where its bundle comes from.
type federation struct {
	trustDomain spiffeid.TrustDomain
	file        string
	url         string      // "": the file alone
	endpoint    spiffeid.ID // of the server at url
}

// parseFederation reads TRUST-DOMAIN=FILE[,URL,SPIFFE-ID]. The last two are found from the end: a file's name may hold
// commas.
func parseFederation(flag string) (f federation, err error) {
	bad := func(reason string, args ...any) (federation, error) {
		return federation{}, cli.Usagef("--federate %q: "+reason, append([]any{flag}, args...)...)
	}
	name, rest, found := strings.Cut(flag, "=")
	if !found || rest == "" {
		return bad("the form is TRUST-DOMAIN=FILE or TRUST-DOMAIN=FILE,https://HOST:PORT/PATH,SPIFFE-ID")
	}
	if f.trustDomain, err = spiffeid.TrustDomainFromString(name); err != nil {
		return bad("%w", err)
	}
	f.file = rest
	if i := strings.LastIndex(rest, ",spiffe://"); i >= 0 {
		if f.endpoint, err = spiffeid.FromString(rest[i+1:]); err != nil {
			return bad("%w", err)
		}
		f.file = rest[:i]
		j := strings.LastIndex(f.file, ",https://")
		if j < 0 {
			return bad("a SPIFFE ID is for an endpoint, and there is no https:// URL before it")
		}
		f.file, f.url = f.file[:j], f.file[j+1:]
		if u, err := url.Parse(f.url); err != nil || u.Host == "" || u.User != nil {
			return bad("%q is not a URL of the form https://HOST:PORT/PATH", f.url)
		}
		if f.endpoint.Path() == "" || f.endpoint.TrustDomain() != f.trustDomain {
			return bad("the endpoint's SPIFFE ID must be that of a workload of %s: what it serves is verified with the bundle that the file holds", f.trustDomain)
		}
	} else if strings.Contains(rest, ",https://") {
		return bad("an endpoint needs its SPIFFE ID too: TRUST-DOMAIN=FILE,https://HOST:PORT/PATH,SPIFFE-ID")
	}
	if f.file == "" {
		return bad("a file with the bundle to begin with is needed")
	}
	return f, nil
}

// String writes it as the flag has it.
func (f federation) String() string {
	text := f.trustDomain.Name() + "=" + f.file
	if f.url != "" {
		text += "," + f.url + "," + f.endpoint.String()
	}
	return text
}

// parseFederations reads all of them and refuses a trust domain that is given twice.
func parseFederations(flags []string) ([]federation, error) {
	var all []federation
	seen := map[spiffeid.TrustDomain]bool{}
	for _, flag := range flags {
		f, err := parseFederation(flag)
		if err != nil {
			return nil, err
		}
		if seen[f.trustDomain] {
			return nil, cli.Usagef("--federate: %s is given twice", f.trustDomain)
		}
		seen[f.trustDomain] = true
		all = append(all, f)
	}
	return all, nil
}

// absoluteFederations checks the flags and makes their files absolute, for a process with another working directory.
func absoluteFederations(flags []string) ([]string, error) {
	all, err := parseFederations(flags)
	if err != nil {
		return nil, err
	}
	var absolute []string
	for _, f := range all {
		if f.file, err = filepath.Abs(f.file); err != nil {
			return nil, cli.Usagef("--federate: %w", err)
		}
		absolute = append(absolute, f.String())
	}
	return absolute, nil
}
