package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/session"
)

// sessionFlags say where the session is kept, and through whom tokens is called.
type sessionFlags struct {
	dir                       *string
	as, file                  string
	tokens, cert, key, bundle string
	timeout                   time.Duration
}

func (f *sessionFlags) add(c *cobra.Command) {
	f.dir = dirFlag(c)
	flags := c.Flags()
	flags.StringVar(&f.as, "as", "", "operator of the mesh in --dir whose certificate is used (default: that of the session, alice for a new one)")
	flags.StringVar(&f.tokens, "tokens", "", "TARGET,SPIFFE-ID of the service tokens, where no 'rolecall up' runs")
	flags.StringVar(&f.cert, "cert", "", "PEM file with the operator's certificate chain")
	flags.StringVar(&f.key, "key", "", "PEM file with the operator's key")
	flags.StringVar(&f.bundle, "bundle", "", "PEM file with the roots that the operator trusts")
	flags.StringVar(&f.file, "session", "", "file of the session (default: session.json in --dir, with --tokens one for each of them in rolecall/ of the user's configuration folder)")
	flags.DurationVar(&f.timeout, "timeout", 20*time.Second, "how long to wait for the answer")
	c.MarkFlagsRequiredTogether("tokens", "cert", "key", "bundle")
	c.MarkFlagsMutuallyExclusive("tokens", "dir")
	c.MarkFlagsMutuallyExclusive("tokens", "as")
}

func (f *sessionFlags) check() error {
	if f.timeout <= 0 {
		return cli.Usagef("--timeout %s: a time above 0 is needed", f.timeout)
	}
	return nil
}

// openSession is a session with a way to tokens.
type openSession struct {
	session *session.Session
	path    string
	// id is the SPIFFE ID that tokens is called with.
	id    string
	close func()
}

// open returns the session. One that goes on is gone on with by the operator who began it, unless another one was named.
func (f *sessionFlags) open(goesOn bool) (*openSession, error) {
	if f.tokens != "" {
		return f.named(goesOn)
	}
	d, err := mesh.Open(*f.dir)
	if err != nil {
		return nil, err
	}
	file, err := mesh.Read(d)
	if err != nil {
		return nil, err
	}
	path := f.file
	if path == "" {
		path = d.Session()
	}
	through := ""
	if goesOn {
		there, err := session.Read(path)
		if err != nil {
			return nil, err
		}
		through = there.Through
	}
	o, err := operatorOf(file, f.as, through)
	if err != nil {
		return nil, err
	}
	service, ok := file.Service(catalog.Tokens)
	if !ok {
		return nil, errors.New("the mesh that runs has no service tokens: stop it and start it again")
	}
	id, err := spiffeid.FromString(service.ID)
	if err != nil {
		return nil, fmt.Errorf("mesh.json names the service %s %q: %w", service.Name, service.ID, err)
	}
	return dialTokens(path, through, "passthrough:///"+service.Address, id, o.Cert, o.Key, file.Bundle)
}

// operatorOf returns the operator of that name, else of that SPIFFE ID, else alice.
func operatorOf(file *mesh.File, name, id string) (mesh.Operator, error) {
	if name == "" && id != "" {
		for _, o := range file.Operators {
			if o.ID == id {
				return o, nil
			}
		}
		return mesh.Operator{}, fmt.Errorf("the session was begun by %s, who is no operator of this mesh: log in again", id)
	}
	if name == "" {
		name = "alice"
	}
	o, ok := file.Operator(name)
	if !ok {
		return o, cli.Usagef("--as %s: mesh.json knows no such operator: it has %s", name, strings.Join(operatorNames(file), ", "))
	}
	return o, nil
}

// named opens the session by the flags alone.
func (f *sessionFlags) named(goesOn bool) (*openSession, error) {
	tokens, err := parsePeer("--tokens", f.tokens)
	if err != nil {
		return nil, err
	}
	path := f.file
	if path == "" {
		folder, err := os.UserConfigDir()
		if err != nil {
			return nil, cli.Usagef("there is no configuration folder for the session (%w): name its file with --session", err)
		}
		path = filepath.Join(folder, "rolecall", sessionFile(tokens.Target, tokens.ID))
	}
	through := ""
	if goesOn {
		there, err := session.Read(path)
		if err != nil {
			return nil, err
		}
		through = there.Through
	}
	return dialTokens(path, through, tokens.Target, tokens.ID, f.cert, f.key, f.bundle)
}

// sessionFile is the name of the file of a session with a service tokens: one for each, so that a login to one mesh does not
// take the place of the session with another.
func sessionFile(target string, id spiffeid.ID) string {
	sum := sha256.Sum256([]byte(target + "," + id.String()))
	return "session-" + hex.EncodeToString(sum[:8]) + ".json"
}

// dialTokens calls tokens with a certificate. A session that was begun through another workload, or in another mesh, is left
// alone: tokens would refuse its token as that of no session, and it would be taken for ended.
func dialTokens(path, through, target string, server spiffeid.ID, cert, key, bundle string) (*openSession, error) {
	source, err := certfile.Open(cert, key, bundle)
	if err != nil {
		return nil, err
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	if through != "" && through != svid.ID.String() {
		return nil, fmt.Errorf("the session in %s was begun by %s, and goes on through that one alone, not %s: use its certificate, or log in anew", path, through, svid.ID)
	}
	quiet := slog.New(slog.DiscardHandler) // what fails is told in the command's own error
	guard, err := interceptors.New(source, nil, interceptors.Logger(quiet), interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	conn, err := guard.NewClient(target, server)
	if err != nil {
		return nil, errors.Join(err, guard.Close())
	}
	return &openSession{
		session: session.At(path, tokensv1.NewTokensServiceClient(conn)), path: path, id: svid.ID.String(),
		close: func() { _ = errors.Join(conn.Close(), guard.Close()) },
	}, nil
}
