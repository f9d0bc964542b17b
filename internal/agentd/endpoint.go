package agentd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"

	"example.com/rolecall/pki"
)

// Times of asking a bundle endpoint.
const (
	endpointTimeout  = 10 * time.Second
	endpointInterval = 5 * time.Minute // for a bundle that says nothing about it
	endpointShortest = time.Second
	endpointLongest  = time.Hour
	endpointRetry    = 30 * time.Second // at most, after a failure
	endpointHeaders  = 64 << 10
)

// poll asks the endpoint as often as its bundle says, until ctx ends.
func (m *member) poll(ctx context.Context) {
	reported := ""
	retry := endpointShortest
	for ctx.Err() == nil {
		wait := interval(m.bundle())
		if err := m.ask(ctx); err == nil {
			retry = endpointShortest
			if reported != "" {
				m.home.log.Info("the bundle endpoint answers again", "trust_domain", m.TrustDomain, "url", m.URL)
			}
			reported = ""
			wait = interval(m.bundle())
		} else if ctx.Err() == nil {
			if err.Error() != reported {
				m.home.log.Error("the bundle endpoint gave no bundle; the one at hand stays in force", "trust_domain", m.TrustDomain, "url", m.URL, "error", err)
			}
			reported = err.Error()
			wait = min(wait, retry)
			retry = min(2*retry, endpointRetry)
		}
		pause(ctx, wait-wait/10+rand.N(wait/10+1)) // never later than the hint
	}
}

func interval(bundle *spiffebundle.Bundle) time.Duration {
	if bundle == nil {
		return endpointInterval
	}
	hint, ok := bundle.RefreshHint()
	if !ok || hint == 0 {
		return endpointInterval
	}
	return min(max(hint, endpointShortest), endpointLongest)
}

// ask fetches the bundle once and takes it over if it is newer, in memory and in the file.
func (m *member) ask(ctx context.Context) error {
	known := m.bundle()
	if known == nil {
		return fmt.Errorf("there is no bundle to begin with: put one at %s", m.File)
	}
	data, err := m.fetch(ctx, known)
	if err != nil {
		return err
	}
	fresh, err := pki.ParseBundleDocument(m.TrustDomain, data)
	if err != nil {
		return err
	}
	was, numbered := known.SequenceNumber()
	if is, ok := fresh.SequenceNumber(); numbered && (!ok || is < was) {
		return fmt.Errorf("bundle %d after %d: %w; the newer one stays", is, was, errBackwards)
	}
	if fresh.Equal(known) {
		return nil
	}
	m.look()
	if !m.home.replace(known, fresh) {
		return errors.New("the bundle was replaced by hand while the endpoint was asked, which had proven itself with the former one")
	}
	if err := m.write(data); err != nil {
		m.home.log.Error("the bundle of another trust domain is in use and could not be written: an agent that starts again begins with the old one",
			"trust_domain", m.TrustDomain, "path", m.File, "error", err)
	}
	m.home.log.Info("new bundle of another trust domain", "trust_domain", m.TrustDomain, "roots", len(fresh.X509Authorities()))
	return nil
}

// fetch gets the document over a connection of its own, on which the endpoint proves with the roots at hand that it is who
// it must be (SPIFFE Federation §5.2.2). No proxy, no redirect.
func (m *member) fetch(ctx context.Context, known *spiffebundle.Bundle) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, endpointTimeout)
	defer cancel()
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: endpointTimeout}).DialContext,
		TLSClientConfig:        tlsconfig.TLSClientConfig(known, tlsconfig.AuthorizeID(m.EndpointID)),
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: endpointHeaders,
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return errors.New("it redirects, which is not followed")
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered %s", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, pki.MaxBundleDocument+1))
	if err != nil {
		return nil, err
	}
	if len(data) > pki.MaxBundleDocument {
		return nil, fmt.Errorf("its answer has more than %d bytes", pki.MaxBundleDocument)
	}
	return data, nil
}

// replaceFile replaces the file in one step (0644: a bundle is no secret).
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
