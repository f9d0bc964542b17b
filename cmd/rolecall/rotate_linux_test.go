package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// rotation runs a command of the rotation and wants the code.
func (m *meshUp) rotation(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, stdout, stderr := m.run(t, append([]string{"pki", "root", "rotate"}, args...)...)
	if code != want {
		t.Fatalf("%v: code %d, want %d\n%s%s", args, code, want, stdout, stderr)
	}
	return stdout + stderr
}

func TestAnOperatorReplacesTheRootOfARunningMesh(t *testing.T) {
	t.Parallel()
	m := bringUp(t, "--leaf-ttl", "15s", "--issuer-ttl", "90s")
	d := m.folder(t)
	dir := []string{"--dir", m.dir}
	with := func(step string, more ...string) []string { return append(append([]string{step}, dir...), more...) }

	for _, step := range []string{"prepare", "activate", "retire"} {
		if said := m.rotation(t, cli.ExitDone, with(step, "--dry-run")...); !strings.Contains(said, "Nothing was changed") {
			t.Errorf("%s --dry-run: %s", step, said)
		}
	}
	if exists(d.RootNext()) {
		t.Error("a dry run has made a root")
	}
	m.rotation(t, cli.ExitDone, with("prepare")...)
	again := m.rotation(t, cli.ExitDone, with("prepare")...)
	if !strings.Contains(again, "rotate activate") {
		t.Errorf("prepare again says not how to go on: %s", again)
	}
	if said := m.rotation(t, cli.ExitFailed, with("retire")...); !strings.Contains(said, "rotate activate") {
		t.Errorf("retire before activate: %s", said)
	}
	m.rotation(t, cli.ExitDone, with("activate")...)

	// As where no mesh.json says whom to ask: nobody knows what bob and carol have in their files.
	alice, _ := m.file.Operator("alice")
	at, _ := m.file.Service("authority")
	flags := []string{"retire", "--ca", d.Authority(), "--authority", "passthrough:///" + at.Address + "," + at.ID,
		"--cert", alice.Cert, "--key", alice.Key, "--bundle", m.file.Bundle}
	for _, s := range m.file.Services {
		flags = append(flags, "--service", s.Name+"=dns:///"+s.Address+","+s.ID)
	}
	said := m.rotation(t, cli.ExitFailed, flags...)
	for _, want := range []string{"retire is not safe yet", "spiffe://mesh.local/operator/bob", "spiffe://mesh.local/operator/carol", "--without"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is missing in:\n%s", want, said)
		}
	}
	if roots := len(readRoots(t, d.AuthorityBundle())); roots != 2 {
		t.Errorf("%d roots after a refused step, want 2", roots)
	}
	without := []string{"--reason", "a sample operator, who reads the mesh's bundle", "--without", "spiffe://mesh.local/operator/bob"}
	if said := m.rotation(t, cli.ExitUsage, append(flags, append(without, "--without", "spiffe://mesh.local/service/none")...)...); !strings.Contains(said, "in nobody's way") {
		t.Errorf("somebody who is not missing is left out: %s", said)
	}
	m.rotation(t, cli.ExitFailed, append(flags, without...)...) // carol is still missing
	var status rotationStatus
	if err := json.Unmarshal([]byte(m.rotation(t, cli.ExitDone, with("status", "-o", "json")...)), &status); err != nil {
		t.Fatal(err)
	}
	if status.Phase != string(pki.RotationActivated) || !status.Asked || len(status.Skipped) != 1 || !strings.HasPrefix(status.Skipped[0].By, "spiffe://mesh.local/operator/alice") {
		t.Errorf("status: %+v", status)
	}
	if slices.ContainsFunc(status.Obstacles, func(o rootrotation.Obstacle) bool { return o.ID == "spiffe://mesh.local/operator/bob" }) {
		t.Errorf("bob is left out and still missing: %+v", status.Obstacles)
	}

	// Until the last certificate under the old root has ended. Who was left out stays so.
	flags = append(flags, "--reason", "as bob", "--without", "spiffe://mesh.local/operator/carol")
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		code, _, stderr := m.run(t, append([]string{"pki", "root", "rotate"}, flags...)...)
		if code == cli.ExitDone {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("not retired within a minute:\n%s", stderr)
		}
		<-tick.C
	}
	t.Logf("retired after %s", time.Since(began).Round(time.Millisecond))
	if roots := len(readRoots(t, d.AuthorityBundle())); roots != 1 || exists(d.RootNext()) {
		t.Errorf("%d roots, root-next is there: %v", roots, exists(d.RootNext()))
	}
	if code, stdout, stderr := m.run(t, "pki", "issue", "--dir", m.dir, "--id", "spiffe://mesh.local/operator/dave", "--cert", m.dir+"/dave.crt", "--key", m.dir+"/dave.key"); code != 0 {
		t.Errorf("issue under the new root: %d, %s%s", code, stdout, stderr)
	}
}

func readRoots(t *testing.T, path string) [][]byte {
	t.Helper()
	bundle, err := pki.ReadBundle(path)
	if err != nil {
		t.Fatal(err)
	}
	var roots [][]byte
	for _, root := range bundle.X509Authorities() {
		roots = append(roots, root.Raw)
	}
	return roots
}
