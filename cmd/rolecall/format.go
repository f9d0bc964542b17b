package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/up"
)

// format is the value of --output, which is refused when it is read.
type format struct {
	value   string
	allowed []string
}

func (f *format) String() string { return f.value }
func (f *format) Type() string   { return strings.Join(f.allowed, "|") }

// Set implements pflag.Value.
func (f *format) Set(value string) error {
	if !slices.Contains(f.allowed, value) {
		return cli.Usagef("one of %s is needed", strings.Join(f.allowed, ", "))
	}
	f.value = value
	return nil
}

// outputFlag gives the command -o; the first of the formats is the default.
func outputFlag(c *cobra.Command, formats ...string) *format {
	f := &format{value: formats[0], allowed: formats}
	c.Flags().VarP(f, "output", "o", "how to write it")
	if err := c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
	return f
}

// defaultDir is the folder of the mesh where no other is named.
const defaultDir = up.DefaultDir

// dirFlag gives the command --dir, the folder of a mesh that `up` made.
func dirFlag(c *cobra.Command) *string {
	dir := c.Flags().String("dir", defaultDir, "folder of the mesh")
	if err := c.MarkFlagDirname("dir"); err != nil {
		panic(err)
	}
	return dir
}

// authorityDir returns the folder of a certificate authority: ca if it is given, else that of the mesh in dir.
func authorityDir(dir, ca string) (string, error) {
	if ca != "" {
		return ca, nil
	}
	d, err := mesh.Open(dir)
	if err != nil {
		return "", err
	}
	return d.Authority(), nil
}

// needed marks flags that a command cannot do without.
func needed(c *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := c.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
}
