package repo_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// interceptorsModules is what an adopter's build takes in with the interceptors, on any platform: a longer list is a
// longer audit for each of them. Think twice, then add it here.
var interceptorsModules = []string{
	"github.com/cespare/xxhash/v2",              // OpenTelemetry's attribute sets
	"github.com/fsnotify/fsnotify",              // sees roles.yaml change
	"github.com/spiffe/go-spiffe/v2",            // SPIFFE IDs, SVIDs, bundles, verification
	"go.opentelemetry.io/otel",                  // attributes
	"go.opentelemetry.io/otel/metric",           // the meter an adopter may give; no exporter
	"go.yaml.in/yaml/v3",                        // reads roles.yaml strictly
	"golang.org/x/net",                          // grpc
	"golang.org/x/sys",                          // grpc
	"golang.org/x/text",                         // grpc
	"google.golang.org/genproto/googleapis/rpc", // ErrorInfo, RetryInfo, BadRequest
	"google.golang.org/grpc",
	"google.golang.org/protobuf",
}

// featureModules is what each feature brings beside that, for those adopters who use it.
var featureModules = map[string][]string{
	"exactlyonce": nil,
	"proof":       nil,
	"usertoken":   nil,
}

// modulesOf returns the modules that packages bring on any platform, and which packages of ours.
func modulesOf(t *testing.T, pattern string) (modules, own []string) {
	t.Helper()
	for _, goos := range platforms {
		for _, p := range goList(t, goos, "-deps", pattern) {
			switch {
			case p.Standard || p.Module == nil:
			case p.Module.Path == modulePath:
				own = append(own, strings.TrimPrefix(p.ImportPath, modulePath+"/"))
			default:
				modules = append(modules, p.Module.Path)
			}
		}
	}
	slices.Sort(modules)
	slices.Sort(own)
	return slices.Compact(modules), slices.Compact(own)
}

func TestInterceptorsBringTheseModulesAndNoOthers(t *testing.T) {
	t.Parallel()
	got, own := modulesOf(t, "./interceptors")
	if diff := cmp.Diff(interceptorsModules, got); diff != "" {
		t.Errorf("modules that ./interceptors brings (-expected +found):\n%s", diff)
	}
	for feature := range featureModules {
		if slices.Contains(own, "interceptors/"+feature) {
			t.Errorf("./interceptors brings the feature %s, which only those who use it should have", feature)
		}
	}
}

func TestAFeatureBringsNoOtherModules(t *testing.T) {
	t.Parallel()
	for feature, more := range featureModules {
		modules, _ := modulesOf(t, "./interceptors/"+feature)
		for _, module := range modules {
			if !slices.Contains(interceptorsModules, module) && !slices.Contains(more, module) {
				t.Errorf("./interceptors/%s brings %s", feature, module)
			}
		}
	}
}

func TestToolsAreNotInTheMainModule(t *testing.T) {
	t.Parallel()
	type module struct{ Require, Tool []struct{ Path string } }
	parse := func(file string) module {
		cmd := exec.Command("go", "mod", "edit", "-json", file)
		cmd.Dir = root(t)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go mod edit -json %s: %v", file, err)
		}
		var m module
		if err := json.Unmarshal(out, &m); err != nil {
			t.Fatalf("read go mod edit -json %s: %v", file, err)
		}
		return m
	}
	main, tools := parse("go.mod"), parse("tools/go.mod")
	if len(main.Tool) != 0 {
		t.Errorf("go.mod names tools %v; they belong in tools/go.mod", main.Tool)
	}
	if len(tools.Tool) == 0 {
		t.Error("tools/go.mod names no tool")
	}
	libraries := []string{"google.golang.org/grpc", "google.golang.org/protobuf"}
	for _, tool := range tools.Tool {
		for _, m := range main.Require {
			if under(tool.Path, m.Path) && !slices.ContainsFunc(libraries, func(l string) bool { return strings.HasPrefix(m.Path, l) }) {
				t.Errorf("go.mod requires %s, the module of the tool %s", m.Path, tool.Path)
			}
		}
	}
}
