package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/session"
)

// maxToken bounds an access token that is read from a file.
const maxToken = 16 << 10

// caller is who calls, and whom.
type caller struct {
	mesh   *mesh.File // nil: not asked for yet
	api    io.Closer  // nil: no Workload API
	client *call.Client
	server call.Peer
	conn   *grpc.ClientConn
	id     spiffeid.ID
	user   string // on whose behalf, for people; empty: nobody's
}

func (w *caller) close() {
	if w.client != nil {
		_ = w.client.Close()
	}
	if w.api != nil {
		_ = w.api.Close()
	}
}

// open finds out who calls and whom: the server that the flags name, or the one of that name in the mesh.
func (w *caller) open(ctx context.Context, f *callFlags, server string) error {
	source, err := w.source(ctx, f)
	if err != nil {
		return err
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	w.id = svid.ID
	if w.server, err = w.find(f, server); err != nil {
		return err
	}
	keys, err := w.keys(f)
	if err != nil {
		return err
	}
	if w.client, err = call.NewClient(source, keys); err != nil {
		return err
	}
	w.conn, err = w.client.Dial(w.server)
	return err
}

// read reads mesh.json.
func (w *caller) read(f *callFlags) error {
	if w.mesh != nil {
		return nil
	}
	d, err := mesh.Open(*f.dir)
	if err == nil {
		w.mesh, err = mesh.Read(d)
	}
	return err
}

// source returns the certificate to call with.
func (w *caller) source(ctx context.Context, f *callFlags) (interceptors.Source, error) {
	if f.cert != "" {
		return certfile.Open(f.cert, f.key, f.bundle)
	}
	if address := os.Getenv(workloadapi.SocketEnv); address != "" && f.as == "" {
		if err := workloadapi.ValidateAddress(address); err != nil {
			return nil, cli.Usagef("%s=%s: %w", workloadapi.SocketEnv, address, err)
		}
		api, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(address)))
		if err != nil {
			return nil, fmt.Errorf("get a certificate from the Workload API at %s (is the agent running, and does it know this process? --as calls as an operator): %w", address, err)
		}
		w.api = api
		return api, nil
	}
	if err := w.read(f); err != nil {
		return nil, err
	}
	through := ""
	if f.user && f.as == "" {
		there, err := session.Read(f.sessionPath())
		if err != nil {
			return nil, err
		}
		through = there.Through
	}
	o, err := operatorOf(w.mesh, f.as, through)
	if err != nil {
		return nil, err
	}
	return certfile.Open(o.Cert, o.Key, w.mesh.Bundle)
}

// sessionPath is where `rolecall login` keeps the session of the mesh in --dir.
func (f *callFlags) sessionPath() string {
	d, err := mesh.Open(*f.dir)
	if f.session != "" || err != nil {
		return f.session
	}
	return d.Session()
}

// context returns the context of a call: on whose behalf it is made, with which roles and metadata.
func (w *caller) context(ctx context.Context, f *callFlags, m call.Method, trace *call.Trace, stdin io.Reader) (context.Context, error) {
	token, err := w.token(ctx, f, stdin)
	if err != nil {
		return nil, err
	}
	pairs, err := f.metadata()
	if err != nil {
		return nil, err
	}
	return call.With{Token: token, Roles: f.roles, Metadata: pairs, Trace: trace}.Context(ctx, m), nil
}

// token returns the access token of the user on whose behalf the call is made, "" for nobody's.
func (w *caller) token(ctx context.Context, f *callFlags, stdin io.Reader) (string, error) {
	if f.tokenFile != "" {
		w.user = "the user of the token"
		return readToken(f.tokenFile, stdin)
	}
	if !f.user {
		return "", nil
	}
	// The session goes on through whoever began it, who need not be the one that calls.
	flags := sessionFlags{dir: f.dir, file: f.session, tokens: f.tokens, cert: f.cert, key: f.key, bundle: f.bundle, timeout: f.timeout}
	if f.tokens != "" && f.cert == "" {
		return "", cli.Usagef("--tokens goes with --cert, --key and --bundle, as in 'rolecall login'")
	}
	open, err := flags.open(true)
	if err != nil {
		return "", err
	}
	defer open.close()
	fresh, err := open.session.Fresh(ctx)
	w.user = fresh.Username
	return fresh.AccessToken, err
}

// readToken reads an access token that only its owner may read, as `rolecall login` prints it.
func readToken(path string, stdin io.Reader) (string, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		if mode := info.Mode(); mode.IsRegular() && runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 {
			return "", fmt.Errorf("--token-file: %s has mode %04o, which lets others read it: chmod 600 %s", path, mode.Perm(), cli.Quote(path))
		}
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if len(data) > maxToken || strings.Count(token, ".") != 2 || strings.ContainsAny(token, " \r\n\x00") {
		return "", errors.New("--token-file holds no access token, as 'rolecall login' prints it")
	}
	return token, nil
}
