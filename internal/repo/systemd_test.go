package repo_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// units is where the units for systemd lie.
const units = "deploy/systemd/"

// mostExposed bounds what systemd-analyze security says of a unit, in tenths of its scale of 0 (safe) to 10.
const mostExposed = "20"

// systemdTool returns a tool of systemd, or skips the test where the system has none.
func systemdTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed; scripts/clients installs it", name)
	}
	t.Skipf("%s is not installed: no systemd here", name)
	return ""
}

// unitFiles returns the names of the units.
func unitFiles(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, name := range files(t) {
		if strings.HasPrefix(name, units) && strings.HasSuffix(name, ".service") {
			names = append(names, strings.TrimPrefix(name, units))
		}
	}
	if want := []string{"rolecall-agent.service", "rolecall-authority.service", "rolecall-keys.service", "rolecall-ledger.service"}; !slices.Equal(names, want) {
		t.Fatalf("units in %s: %q, want %q", units, names, want)
	}
	return names
}

func TestUnitsAreWhatSystemdTakesAndHardlyExposed(t *testing.T) {
	t.Parallel()
	analyze := systemdTool(t, "systemd-analyze")
	program, err := exec.LookPath("true")
	if err != nil {
		t.Skip("no program to put in rolecall's place")
	}
	dir := t.TempDir()
	var paths []string
	for _, name := range unitFiles(t) {
		path := filepath.Join(dir, name)
		// Where rolecall will be installed there is nothing yet.
		text := strings.ReplaceAll(read(t, units+name), "/usr/local/bin/rolecall", program)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	// It exits with 0 for a setting that it does not know, and only says so.
	if out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--man=no"}, paths...)...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, path := range paths {
		cmd := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--no-pager", "--threshold="+mostExposed, path)
		cmd.Env = append(os.Environ(), "SYSTEMD_EMOJI=0")
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(lines[len(lines)-1])
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", filepath.Base(path), err, out)
		}
	}
}

func TestUsersAndFilesOfTheUnitsCanBeMade(t *testing.T) {
	t.Parallel()
	sysusers, tmpfiles := systemdTool(t, "systemd-sysusers"), systemdTool(t, "systemd-tmpfiles")
	if os.Getuid() != 0 {
		t.Skip("makes users in a folder that stands for a whole system, which takes root")
	}
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc", "rolecall")
	if err := os.MkdirAll(etc, 0o700); err != nil {
		t.Fatal(err)
	}
	want := map[string]os.FileMode{
		"roles.yaml": 0o644, "registrations.yaml": 0o644, "entries.yaml": 0o644, "authority.credential": 0o600, "ticket.pem": 0o600,
	}
	for name := range want {
		if err := os.WriteFile(filepath.Join(etc, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	config := func(name string) string { return filepath.Join(root(t), filepath.FromSlash(units), name) }
	for _, cmd := range []*exec.Cmd{
		exec.CommandContext(t.Context(), sysusers, "--root="+dir, config("rolecall.sysusers.conf")),
		exec.CommandContext(t.Context(), tmpfiles, "--root="+dir, "--create", config("rolecall.tmpfiles.conf")),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%q: %v\n%s", cmd.Args, err, out)
		}
	}
	passwd, err := os.ReadFile(filepath.Join(dir, "etc", "passwd"))
	if err != nil {
		t.Fatal(err)
	}
	want["."] = 0o755 // the folder itself
	for name, mode := range want {
		if info, err := os.Stat(filepath.Join(etc, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %04o", name, info.Mode(), err, mode)
		}
	}
	for _, name := range unitFiles(t) {
		user := regexp.MustCompile(`(?m)^User=(.+)$`).FindStringSubmatch(read(t, units+name))
		if user == nil {
			t.Errorf("%s runs as root: it says no User=", name)
		} else if line := regexp.MustCompile(`(?m)^` + user[1] + `:.*:/usr/sbin/nologin$`); !line.Match(passwd) {
			t.Errorf("%s runs as %s, whom rolecall.sysusers.conf does not make, or gives a shell:\n%s", name, user[1], passwd)
		}
	}
}

// The command lines of the units are those of this version: a flag that was renamed would be noticed by the operator alone.
func TestUnitsUseFlagsThatAreThere(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, name := range files(t) {
		if strings.HasPrefix(name, "cmd/rolecall/") && !strings.HasSuffix(name, "_test.go") {
			source.WriteString(read(t, name))
		}
	}
	flags := 0
	for _, name := range unitFiles(t) {
		line := regexp.MustCompile(`(?ms)^ExecStart=(.*?[^\\])$`).FindStringSubmatch(read(t, units+name))
		if line == nil {
			t.Fatalf("%s has no ExecStart=", name)
		}
		for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(line[1], -1) {
			flags++
			if !regexp.MustCompile(`Var\(&[\w.]+, "` + flag[1] + `", `).MatchString(source.String()) {
				t.Errorf("%s: no command has the flag --%s", name, flag[1])
			}
		}
	}
	if flags == 0 {
		t.Error("the units use no flag")
	}
}
