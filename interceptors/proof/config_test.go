package proof_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	other := spiffeid.RequireFromString("spiffe://other.local/service/keys")
	for _, c := range []struct {
		name   string
		config proof.Config
		want   string // in the error; empty: it is good
	}{
		{"nothing", proof.Config{}, ""},
		{"all", proof.Config{Target: "localhost:1", Server: ca.ID(keysPath), Life: time.Minute, Leeway: proof.NoLeeway, Metadata: []string{"x-a"}, CacheSize: 16,
			PerSigner: 10, MarkFile: filepath.Join(t.TempDir(), "mark")}, ""},
		{"a target without a server", proof.Config{Target: "localhost:1"}, "give both"},
		{"a server without a target", proof.Config{Server: ca.ID(keysPath)}, "give both"},
		{"a key server of another trust domain", proof.Config{Target: "localhost:1", Server: other}, "own trust domain"},
		{"a life of 61 s", proof.Config{Life: 61 * time.Second}, "Life"},
		{"a life of half a second", proof.Config{Life: time.Second / 2}, "Life"},
		{"a leeway of 31 s", proof.Config{Leeway: 31 * time.Second}, "Leeway"},
		{"a leeway of 1.5 s", proof.Config{Leeway: 1500 * time.Millisecond}, "Leeway"},
		{"a cache of 15", proof.Config{CacheSize: 15}, "CacheSize"},
		{"metadata in upper case", proof.Config{Metadata: []string{"X-A"}}, "X-A"},
		{"metadata that no proof covers", proof.Config{Metadata: []string{"traceparent"}}, "traceparent"},
		{"metadata of gRPC", proof.Config{Metadata: []string{"grpc-timeout"}}, "grpc-timeout"},
		{"room for less than nothing", proof.Config{PerSigner: -1}, "PerSigner"},
		{"room for too many", proof.Config{PerSigner: 25_000_001}, "PerSigner"},
		{"a mark for a database", proof.Config{Window: proof.SQLiteWindow(nil), MarkFile: "mark"}, "MarkFile"},
		{"a mark where nothing can be written", proof.Config{MarkFile: filepath.Join(t.TempDir(), "no", "folder", "mark")}, "mark"},
	} {
		guard, err := interceptors.New(ca.Source(payer), nil, interceptors.With(proof.New(c.config)), interceptors.Audit(slog.DiscardHandler), quiet())
		if err == nil {
			must(t, guard.Close())
		}
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestAFeatureIsForOneGuard(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := proof.New(proof.Config{})
	if err := f.Announced(t.Context()); err == nil {
		t.Error("announced without a guard")
	}
	if _, err := f.Signer().Sign(ca.ID(bankPath), payment(t, "dave", 1), pay); err == nil {
		t.Error("signed without a guard")
	}
	guard, err := interceptors.New(ca.Source(payer), nil, interceptors.With(f), interceptors.Audit(slog.DiscardHandler), quiet())
	must(t, err)
	defer func() { must(t, guard.Close()) }()
	if _, err := interceptors.New(ca.Source(payer), nil, interceptors.With(f), interceptors.Audit(slog.DiscardHandler), quiet()); err == nil || !strings.Contains(err.Error(), "two guards") {
		t.Errorf("the second guard: %v", err)
	}
	must(t, f.Announced(t.Context())) // there is no key server
	for name, sign := range map[string]func() error{
		"without a method": func() error { _, err := f.Signer().Sign(ca.ID(bankPath), payment(t, "dave", 1), "pay"); return err },
		"without a server": func() error { _, err := f.Signer().Sign(spiffeid.ID{}, payment(t, "dave", 1), pay); return err },
	} {
		if err := sign(); err == nil {
			t.Errorf("signed %s", name)
		}
	}
}

const streamProto = `syntax = "proto3";
package upload.v1;
import "google/protobuf/empty.proto";
import "rolecall/v1/access.proto";
service Upload {
  rpc Put(stream google.protobuf.Empty) returns (google.protobuf.Empty) {
    option (rolecall.v1.any_workload) = true;
    option (rolecall.v1.requires_proof) = true;
  }
}
`

func TestRequiresProofOnAClientStreamRefusesToStart(t *testing.T) {
	t.Parallel()
	register(t, "upload.proto", streamProto)
	ca := rolecalltest.NewCA(t, "mesh.local")
	guard, err := interceptors.New(ca.Source(bankPath), interceptors.BindingsYAML([]byte("trustDomain: mesh.local\n")), interceptors.With(proof.New(proof.Config{})),
		interceptors.Audit(slog.DiscardHandler), quiet())
	must(t, err)
	defer func() { must(t, guard.Close()) }()
	server := guard.NewServer()
	server.RegisterService(&grpc.ServiceDesc{ServiceName: "upload.v1.Upload", HandlerType: (*any)(nil), Metadata: "upload.proto",
		Streams: []grpc.StreamDesc{{StreamName: "Put", ClientStreams: true, Handler: func(any, grpc.ServerStream) error { return nil }}}}, nil)
	if err := server.Serve(listen(t)); err == nil || !strings.Contains(err.Error(), "/upload.v1.Upload/Put") && !strings.Contains(err.Error(), "upload.v1.Upload.Put") {
		t.Errorf("got %v, want an error that names the method", err)
	} else {
		t.Log(err)
	}
}
