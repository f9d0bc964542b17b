package mesh_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/rolecall/internal/mesh"
)

func create(t *testing.T) mesh.Dir {
	t.Helper()
	d, err := mesh.Create(filepath.Join(t.TempDir(), "mesh"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCreateMakesAPrivateFolderThatGitIgnoresAndOpenFindsIt(t *testing.T) {
	t.Parallel()
	d := create(t)
	info, err := os.Stat(d.Path())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Errorf("mode %o, want 700", info.Mode().Perm())
	}
	ignore, err := os.ReadFile(filepath.Join(d.Path(), ".gitignore"))
	if err != nil || !strings.Contains(string(ignore), "\n*\n") {
		t.Errorf(".gitignore %q, %v; want a line with *", ignore, err)
	}
	again, err := mesh.Open(d.Path())
	if err != nil || again != d {
		t.Errorf("open: %v, %v; want %v", again, err, d)
	}
	if _, err := mesh.Create(d.Path()); err != nil {
		t.Errorf("create a second time: %v", err)
	}
}

func TestFoldersThatAreRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"a folder of somebody else's":        {map[string]string{"thesis.tex": "..."}, "not made by rolecall"},
		"a layout of a newer rolecall":       {map[string]string{"layout": "2\n"}, "use the newer rolecall"},
		"a layout version that is no number": {map[string]string{"layout": "latest\n"}, "not a layout version"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, text := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := mesh.Create(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("create: %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := mesh.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "rolecall up --dir") {
		t.Errorf("open an empty folder: %v, want how to start a mesh", err)
	}
}

func TestCheckModesNamesEverySecretThatOthersMayRead(t *testing.T) {
	t.Parallel()
	d := create(t)
	cert, key := d.OperatorCert("alice")
	for _, path := range []string{cert, key} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.CheckModes()
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || !strings.Contains(got[0], "chmod 600 "+key) {
		t.Errorf("findings %q, want one that repairs %s", got, key)
	}
	if err := os.Chmod(d.Path(), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := d.CheckModes(); err != nil || len(got) != 2 {
		t.Errorf("findings %q, %v; want the folder too", got, err)
	}
}

func TestWhatTheAuthorityKeepsIsItsOwnersAlone(t *testing.T) {
	t.Parallel()
	d := create(t)
	secret := []string{"authority/issuers/0001.pem", "authority/issuers/0002.request.pem", "authority/jwt/0001.pem", "authority/record/2026-11-22.jsonl",
		"authority/tickets/1f", "authority/credential", "root-next/passphrase", "root-next/root.key", "root-retired-1234/root.key", "host2.ticket",
		"users.json", "session.json"}
	public := []string{"authority/bundle.pem", "authority/crl.pem", "root-next/root.crt", "agent/bundle.pem", "data/jwt/0001.pem"}
	for _, name := range append(slices.Clone(secret), public...) {
		path := filepath.Join(d.Path(), filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.CheckModes()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range secret {
		if !slices.ContainsFunc(got, func(f string) bool { return strings.Contains(f, filepath.FromSlash(name)+" has mode") }) {
			t.Errorf("nothing about %s", name)
		}
	}
	if len(got) != len(secret) {
		t.Errorf("%d findings, want %d: %q", len(got), len(secret), got)
	}
}

func TestSocketsOfADeepFolderLieInTheRuntimeDirectory(t *testing.T) {
	runtimeDir, err := os.MkdirTemp("", "rc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(runtimeDir) })
	t.Setenv("XDG_RUNTIME_DIR", runtimeDir)

	deep, err := mesh.Create(filepath.Join(t.TempDir(), strings.Repeat("deep/", 20)))
	if err != nil {
		t.Fatal(err)
	}
	api, control, err := deep.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{api, control} {
		if len(path) > 103 || !strings.HasPrefix(path, runtimeDir) {
			t.Errorf("socket %s has %d bytes, want at most 103, in %s", path, len(path), runtimeDir)
		}
	}
	private := filepath.Dir(api)
	if info, err := os.Stat(private); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder of the sockets: %v, %v; want mode 0700", info.Mode(), err)
	}
	if err := deep.RemoveSockets(); err != nil {
		t.Errorf("remove sockets: %v", err)
	}
	if _, err := os.Stat(private); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("folder of the sockets is left: %v", err)
	}

	if err := errors.Join(os.Mkdir(private, 0o755), os.Chmod(private, 0o755)); err != nil { // the mode whatever the umask
		t.Fatal(err)
	}
	if _, _, err := deep.Sockets(); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Errorf("a folder that others may enter: %v, want it refused", err)
	}
}

func TestSocketsOfAShortFolderLieInIt(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "rc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := mesh.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	api, control, err := d.Sockets()
	if err != nil || filepath.Dir(api) != d.Path() || filepath.Dir(control) != d.Path() {
		t.Errorf("sockets %s and %s, %v; want both in %s", api, control, err, d.Path())
	}
}

func TestAFolderThatWasHalfMadeIsMadeWhole(t *testing.T) {
	t.Parallel()
	d := create(t)
	if err := os.Remove(filepath.Join(d.Path(), "layout")); err != nil { // written last
		t.Fatal(err)
	}
	if _, err := mesh.Open(d.Path()); err == nil {
		t.Error("Open took a folder that is not whole")
	}
	if _, err := mesh.Create(d.Path()); err != nil {
		t.Fatalf("create what a killed one had begun: %v", err)
	}
	if _, err := mesh.Open(d.Path()); err != nil {
		t.Error(err)
	}
}
