package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// buildBenchmark builds the tests of a package, seen from this folder, into a program in dir that runs its benchmarks.
func buildBenchmark(pkg, dir string) (binary string, err error) {
	binary = filepath.Join(dir, filepath.Base(pkg)+".test")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command(cmp.Or(os.Getenv("GO"), "go"), "-C", pkg, "test", "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the benchmark of %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}
