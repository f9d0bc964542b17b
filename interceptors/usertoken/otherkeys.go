package usertoken

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"example.com/rolecall/interceptors/internal/jws"
)

const (
	maxJWKS = 256 << 10
	// staleJWKS is how long keys stay good that nobody could read anew.
	staleJWKS = 24 * time.Hour
)

// otherKeys are the keys of another issuer, from a file or a URL.
type otherKeys struct {
	issuer Issuer
	client *http.Client // nil: a file
	now    func() time.Time
	purge  func()
	set    atomic.Pointer[otherSet]
}

// otherSet is one view of the keys. Immutable.
type otherSet struct {
	text []byte
	keys map[string]jws.Key
	read time.Time
}

func newOtherKeys(issuer Issuer, now func() time.Time, purge func()) (*otherKeys, error) {
	k := &otherKeys{issuer: issuer, now: now, purge: purge}
	if issuer.JWKSURL == "" {
		return k, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if issuer.CAFile != "" {
		pem, err := os.ReadFile(issuer.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the roots: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", issuer.CAFile)
		}
	}
	k.client = &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 30 * time.Second},
		// Keys come from the URL that was configured, and from no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return k, nil
}

func (k *otherKeys) lookup(id string) (jws.Key, bool) {
	set := k.set.Load()
	if set == nil || k.now().Sub(set.read) > staleJWKS {
		return jws.Key{}, false
	}
	key, ok := set.keys[id]
	return key, ok
}

// fetch reads the keys anew. A keyring calls it for one goroutine at a time.
func (k *otherKeys) fetch(ctx context.Context) error {
	text, err := k.read(ctx)
	if err != nil {
		return fmt.Errorf("read the keys of %s: %w", k.issuer.URL, err)
	}
	old := k.set.Load()
	if old != nil && bytes.Equal(old.text, text) {
		k.set.Store(&otherSet{old.text, old.keys, k.now()})
		return nil
	}
	keys, err := jws.ParseKeySet(text)
	// At the start that is a mistake; later the issuer may have withdrawn all that it had.
	if err == nil && len(keys) == 0 && old == nil {
		err = errors.New("no key among them is for RS256, PS256, ES256 or ES384")
	}
	if err != nil {
		return fmt.Errorf("read the keys of %s: %w", k.issuer.URL, err)
	}
	k.set.Store(&otherSet{text, keys, k.now()})
	if old != nil {
		k.purge() // a key that is gone vouches for nothing any more
	}
	return nil
}

func (k *otherKeys) read(ctx context.Context) (_ []byte, err error) {
	var from io.ReadCloser
	if k.client == nil {
		if from, err = os.Open(k.issuer.JWKSFile); err != nil {
			return nil, err
		}
	} else {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.issuer.JWKSURL, nil)
		if err != nil {
			return nil, err
		}
		response, err := k.client.Do(request)
		if err != nil {
			return nil, err
		}
		from = response.Body
		if response.StatusCode != http.StatusOK {
			return nil, errors.Join(fmt.Errorf("the server answered %s", response.Status), from.Close())
		}
	}
	text, err := io.ReadAll(io.LimitReader(from, maxJWKS+1))
	if err := errors.Join(err, from.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxJWKS {
		return nil, fmt.Errorf("more than %d bytes", maxJWKS)
	}
	return text, nil
}

func (k *otherKeys) close() {
	if k.client != nil {
		k.client.CloseIdleConnections()
	}
}
