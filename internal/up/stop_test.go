package up

import (
	"slices"
	"testing"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/supervisor"
)

func TestEverythingIsStoppedAndCallersFirst(t *testing.T) {
	t.Parallel()
	r := &run{tasks: map[string]*supervisor.Task{agentName: {}}}
	for _, s := range catalog.Services() {
		r.tasks[s.Name] = &supervisor.Task{}
	}
	place := map[string]int{}
	for i, group := range r.groups() {
		for _, name := range group {
			place[name] = i
		}
	}
	for name := range r.tasks {
		if _, ok := place[name]; !ok {
			t.Errorf("%s is never stopped", name)
		}
	}
	for _, s := range catalog.Services() {
		for _, peer := range s.Peers {
			if place[s.Name] >= place[peer] {
				t.Errorf("%s stops no sooner than %s, which it calls", s.Name, peer)
			}
		}
	}
	if got := r.groups(); !slices.Equal(got[len(got)-1], []string{"authority"}) {
		t.Errorf("the last to stop are %v", got[len(got)-1])
	}
}
