package mesh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/internal/mesh"
)

func sample() *mesh.File {
	return &mesh.File{
		TrustDomain: "mesh.local",
		PID:         os.Getpid(),
		Started:     time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
		WorkloadAPI: "unix:///m/agent.sock",
		Services:    []mesh.Service{{Name: "ledger", ID: "spiffe://mesh.local/service/ledger", Address: "127.0.0.1:7445", Admin: "127.0.0.1:7545", PID: 2}},
		Operators:   []mesh.Operator{{Name: "alice", ID: "spiffe://mesh.local/operator/alice", Cert: "/m/alice.crt", Key: "/m/alice.key", Roles: []string{"ledger.admin"}}},
		Users:       []mesh.User{},
		Programs:    []mesh.Program{},
	}
}

func TestMeshFileIsPrivateAndReadsBackAsWritten(t *testing.T) {
	t.Parallel()
	d := create(t)
	if _, err := mesh.Read(d); !errors.Is(err, mesh.ErrNotRunning) {
		t.Fatalf("read before any was written: %v, want %v", err, mesh.ErrNotRunning)
	}
	if err := mesh.Write(d, sample()); err != nil {
		t.Fatal(err)
	}
	got, err := mesh.Read(d)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(), got); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(d.File()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of mesh.json: %v, %v; want 0600", info.Mode(), err)
	}
	if err := errors.Join(mesh.Remove(d), mesh.Remove(d)); err != nil {
		t.Errorf("remove twice: %v", err)
	}
}

func TestMeshFileHasTheKeysThatOtherProgramsRelyOn(t *testing.T) {
	t.Parallel()
	d := create(t)
	file := sample()
	file.Users, file.Programs = nil, nil
	if err := mesh.Write(d, file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(d.File())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"trust_domain", "pid", "workload_api", "bundle", "roles", "services", "operators", "users"} {
		if got[key] == nil {
			t.Errorf("mesh.json has no %q:\n%s", key, data)
		}
	}
	service := got["services"].([]any)[0].(map[string]any)
	for _, key := range []string{"name", "spiffe_id", "address", "admin", "pid"} {
		if service[key] == nil {
			t.Errorf("a service has no %q:\n%s", key, data)
		}
	}
	operator := got["operators"].([]any)[0].(map[string]any)
	for _, key := range []string{"name", "spiffe_id", "cert", "key", "roles"} {
		if operator[key] == nil {
			t.Errorf("an operator has no %q:\n%s", key, data)
		}
	}
}

func TestUpdatesOfSeveralProcessesLoseNothingAndDropDeadPrograms(t *testing.T) {
	t.Parallel()
	d := create(t)
	file := sample()
	file.Programs = []mesh.Program{{ID: "spiffe://mesh.local/gone", PID: 1 << 30}}
	if err := mesh.Write(d, file); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	for n := range 20 {
		writers.Go(func() {
			err := mesh.Update(d, func(f *mesh.File) {
				f.Programs = append(f.Programs, mesh.Program{ID: fmt.Sprint(n), PID: os.Getpid()})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	got, err := mesh.Read(d)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Programs) != 20 {
		t.Errorf("%d programs after 20 updates: %v", len(got.Programs), got.Programs)
	}
}

func TestUpdateOfAMeshThatStoppedSaysSo(t *testing.T) {
	t.Parallel()
	err := mesh.Update(create(t), func(*mesh.File) { t.Error("change was called") })
	if !errors.Is(err, mesh.ErrNotRunning) {
		t.Errorf("update: %v, want %v", err, mesh.ErrNotRunning)
	}
}

func TestMeshFilesThatAreNone(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"broken": "{", "endless": strings.Repeat(" ", 2<<20), "empty": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := create(t)
			if err := os.WriteFile(d.File(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := mesh.Read(d); err == nil || !strings.Contains(err.Error(), "stop and start") {
				t.Errorf("read: %v, want what to do", err)
			}
		})
	}
}
