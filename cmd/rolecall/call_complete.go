package main

import (
	"strings"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/mesh"
)

// completeMethod completes the names of the methods that this program knows.
func completeMethod(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for _, s := range call.Builtin() {
		for _, m := range s.Methods() {
			if strings.HasPrefix(m.Short(), typed) {
				names = append(names, m.Short()+"\t"+m.Requires.String())
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// complete has flags completed: with the names in mesh.json, where there is one, and the roles that this program knows.
func (f *callFlags) complete(c *cobra.Command) {
	named := func(flag string, names func() []string) {
		err := c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return names(), cobra.ShellCompDirectiveNoFileComp
		})
		if err != nil {
			panic(err)
		}
	}
	inMesh := func(names func(*mesh.File) []string) func() []string {
		return func() []string {
			var w caller
			if w.read(f) != nil {
				return nil
			}
			return names(w.mesh)
		}
	}
	named("as", inMesh(operatorNames))
	named("server", inMesh(serviceNames))
	named("via", inMesh(serviceNames))
	named("role-subset", func() []string { return call.Roles(call.Builtin()) })
}

func operatorNames(f *mesh.File) []string {
	var all []string
	for _, o := range f.Operators {
		all = append(all, o.Name)
	}
	return all
}

func serviceNames(f *mesh.File) []string {
	var all []string
	for _, s := range f.Services {
		all = append(all, s.Name)
	}
	return all
}
