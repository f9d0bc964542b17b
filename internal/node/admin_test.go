package node_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
)

// get returns status and body of an admin page; change has its turn at the request.
func get(t *testing.T, service *nodetest.Service, path string, change ...func(*http.Request)) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(nodetest.Context(t), http.MethodGet, "http://"+service.Admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(req)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	return answer.StatusCode, string(body)
}

func readiness(t *testing.T, service *nodetest.Service) (int, node.Readiness) {
	t.Helper()
	code, body := get(t, service, "/readyz")
	var r node.Readiness
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatalf("readyz answered %q: %v", body, err)
	}
	return code, r
}

func TestTheAdminPagesTellOfTheService(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", newSlow().setup)
	if code, body := get(t, service, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	code, r := readiness(t, service)
	if code != http.StatusOK || !r.Ready || r.SPIFFEID != service.ID.String() || len(r.Policy.Version) != 12 || !r.CertificateNotAfter.After(time.Now()) {
		t.Errorf("readyz: %d %+v", code, r)
	}
	if code, body := get(t, service, "/metrics"); code != http.StatusOK || !strings.Contains(body, "rolecall_") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics: %d %s", code, body)
	}
}

func TestABrokenPolicyShowsWhileTheServiceStaysReady(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", newSlow().setup)
	_, before := readiness(t, service)
	if err := os.WriteFile(mesh.Roles, []byte("bindings: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); ; {
		code, r := readiness(t, service)
		if r.Policy.Error != "" {
			t.Logf("seen after %s: %s", time.Since(began), r.Policy.Error)
			if code != http.StatusOK || r.Policy.Version != before.Policy.Version {
				t.Errorf("readyz: %d %+v, want 200 and still version %s", code, r, before.Policy.Version)
			}
			return
		}
		if time.Since(began) > nodetest.Patience {
			t.Fatalf("readyz does not tell of the broken file: %+v", r)
		}
	}
}

func TestAnExpiredCertificateIsNotReady(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	source := mesh.CA.Source("/service/users")
	service := mesh.Start(t, "users", "", newSlow().setup, func(cfg *node.Config) { cfg.Source = source })
	source.Renew(expired)
	if code, r := readiness(t, service); code != http.StatusServiceUnavailable || r.Ready || len(r.Problems) != 1 {
		t.Errorf("readyz: %d %+v, want 503 and the problem", code, r)
	}
}

func TestProfilesAreServedOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	for pprof, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		service := mesh.Start(t, "users", "", newSlow().setup, func(cfg *node.Config) { cfg.Pprof = pprof })
		if code, _ := get(t, service, "/debug/pprof/goroutine?debug=1"); code != want {
			t.Errorf("pprof %v: got %d, want %d", pprof, code, want)
		}
	}
}

func TestAPageOfAForeignNameIsRefused(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, roles)
	service := mesh.Start(t, "users", "", newSlow().setup)
	for host, want := range map[string]int{
		"evil.example": http.StatusMisdirectedRequest, "127.0.0.1.evil.example:80": http.StatusMisdirectedRequest,
		"localhost:80": http.StatusOK, "[::1]:80": http.StatusOK,
	} {
		if code, _ := get(t, service, "/metrics", func(r *http.Request) { r.Host = host }); code != want {
			t.Errorf("Host: %s: got %d, want %d", host, code, want)
		}
	}
}
