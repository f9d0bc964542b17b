//go:build unix

package e2e_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
)

// grpcurl is the real one, called as an operator.
type grpcurl struct {
	t    *testing.T
	mesh *runningMesh
	args []string
}

func newGrpcurl(t *testing.T, running *runningMesh, name string) grpcurl {
	t.Helper()
	o := operator(t, running.file, name)
	return grpcurl{t, running, []string{tool(t, "grpcurl"), "-cacert", running.file.Bundle, "-cert", o.Cert, "-key", o.Key}}
}

// call makes one call with a request in JSON, on behalf of the user of a token unless that is empty, and returns what
// grpcurl printed. The request goes by standard input, where no other process sees it.
func (g grpcurl) call(token, request, method string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), clientTimeout)
	defer cancel()
	args := g.args
	if token != "" {
		args = append(args[:len(args):len(args)], "-H", "authorization: Bearer "+token)
	}
	service, _, _ := strings.Cut(method, ".")
	args = append(args[:len(args):len(args)], "-d", "@", "localhost:"+port(g.t, g.mesh.service(g.t, service).Address), method)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin = strings.NewReader(request)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		g.t.Fatalf("grpcurl %s did not end within %s: %v", method, clientTimeout, err)
	}
	return string(out)
}
