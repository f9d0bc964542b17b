package session_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/session"
	"example.com/rolecall/services/tokens"
)

// helperEnv makes the test binary a process that shares the session: its value has what helper needs.
const helperEnv = "SESSION_TEST_HELPER"

// helper prints the digest of a fresh access token.
func helper() int {
	words := strings.Split(os.Getenv(helperEnv), "\n")
	path, target, server := words[0], words[1], words[2]
	err := func() error {
		source, err := certfile.Open(words[3], words[4], words[5])
		if err != nil {
			return err
		}
		guard, err := interceptors.New(source, nil, quiet...)
		if err != nil {
			return err
		}
		conn, err := guard.NewClient(target, spiffeid.RequireFromString(server))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), nodetest.Patience)
		defer cancel()
		fresh, err := session.At(path, tokensv1.NewTokensServiceClient(conn)).Fresh(ctx)
		sum := sha256.Sum256([]byte(fresh.AccessToken))
		fmt.Println(hex.EncodeToString(sum[:]))
		return errors.Join(err, conn.Close(), guard.Close())
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestProcessesThatRefreshAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	d := newDesk(t, tokens.Config{Grace: time.Millisecond}) // whoever shows a used token is a thief at once
	logged := d.login(t)
	cert, key, bundle := d.files(t, "/operator/bob")
	env := helperEnv + "=" + strings.Join([]string{d.path, "passthrough:///" + d.tokens.Addr, d.tokens.ID.String(), cert, key, bundle}, "\n")
	for round := range 3 {
		d.age(t)
		var processes []*exec.Cmd
		for range 4 {
			p := exec.CommandContext(nodetest.Context(t), os.Args[0])
			p.Env, p.Stdout, p.Stderr = append(os.Environ(), env), &bytes.Buffer{}, &bytes.Buffer{}
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			processes = append(processes, p)
		}
		seen := map[string]bool{}
		for _, p := range processes {
			if err := p.Wait(); err != nil {
				t.Fatalf("round %d: %v: %s", round, err, p.Stderr)
			}
			seen[fmt.Sprint(p.Stdout)] = true
		}
		if len(seen) != 1 {
			t.Errorf("round %d: %d different tokens, want one refresh for all", round, len(seen))
		}
	}
	if now := d.stored(t); now.RefreshToken == logged.RefreshToken {
		t.Error("nothing was refreshed")
	}
}
