package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

// version is set by the linker; without it the build information of Go says what it knows.
var version string

// build is what this binary was made of, for programs.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	GRPC     string `json:"grpc"`
	Platform string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:     "version",
		Short:   "Say which version this is",
		Long:    `Says which version of rolecall this is, and with which Go and gRPC it was built.`,
		Example: `  rolecall version -o json`,
		Args:    cobra.NoArgs,
	}
	output := outputFlag(c, "text", "json")
	c.RunE = func(*cobra.Command, []string) error {
		b := readBuild()
		if output.value == "json" {
			return a.out.JSON(b)
		}
		a.out.Printf("rolecall %s", b.Version)
		if b.Revision != "" {
			a.out.Printf(" (%.12s)", b.Revision)
		}
		a.out.Printf(", %s, gRPC %s, %s\n", b.Go, b.GRPC, b.Platform)
		return nil
	}
	return c
}

func readBuild() build {
	b := build{Version: version, Go: runtime.Version(), GRPC: grpc.Version, Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			b.Revision = setting.Value
		case "vcs.modified":
			b.Modified = setting.Value == "true"
		}
	}
	return b
}
