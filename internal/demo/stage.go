package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"example.com/rolecall/internal/cli"
)

// pace is how long the tour stays at each attempt where a person reads along. The whole takes about 90 seconds then.
const pace = 1100 * time.Millisecond

// welcome says what is going to be shown, and how its commands work.
func (t *tour) welcome() {
	t.out.Printf("%s\n\n", t.out.Bold("What is the worst that Eve can do?"))
	t.say("", nil, fmt.Sprintf("A tour of the mesh in %s, of trust domain %s. It makes real calls to its services. To try them yourself, paste this into a shell first:",
		cli.Relative(t.dir.Path()), t.file.TrustDomain))
	t.out.Println()
	t.prompt("  ", t.preamble())
	t.out.Println()
	if missing := missingPrograms(); len(missing) > 0 {
		t.say("", nil, "Some commands use what is not installed here: "+strings.Join(missing, ", ")+".")
		t.out.Println()
	}
}

// scene begins a scene.
func (t *tour) scene(title string) {
	t.scenes++
	t.say("", t.out.Bold, fmt.Sprintf("%d. %s", t.scenes, title))
	t.out.Println()
}

// play makes an attempt and shows it. It returns whether it went as it should; the error is that of an interrupted tour.
func (t *tour) play(ctx context.Context, a attempt) (bool, error) {
	t.say("  ", nil, a.what)
	t.prompt("    $ ", a.command)
	within := a.within
	if within == 0 {
		within = patience
	}
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	got := a.try(bounded)
	if ctx.Err() != nil {
		return false, fmt.Errorf("the tour was interrupted: %w", context.Cause(ctx))
	}
	return t.judge(ctx, got, a.want, a.why), nil
}

// judge shows an outcome beside the one that was to be expected.
func (t *tour) judge(ctx context.Context, got, want outcome, why string) bool {
	t.attempts++
	head, text, style := "← "+got.code, got.text, t.out.Green
	if got.reason != "" {
		head += ", " + got.reason
	}
	if got.code == ok.code {
		text = cut(text, t.room(len("    "+head+" ")))
	} else {
		head, style = cli.Clean(head)+":", t.out.Yellow
	}
	t.answer(head, cli.Clean(text), style)
	for _, line := range got.shown {
		t.out.Printf("    %s\n", t.out.Dim(cli.Clean(line)))
	}
	if got.noted != "" {
		t.say("    ", nil, cli.Clean(got.noted))
	}
	fits := got.code == want.code && got.reason == want.reason
	if fits {
		t.say("    ", t.out.Dim, why)
	} else {
		t.wrong++
		expected := want.code
		if want.reason != "" {
			expected += " " + want.reason
		}
		t.say("    ", t.out.Red, "✗ this should have been: "+expected+". "+why)
	}
	t.out.Println()
	t.beat(ctx)
	return fits
}

// beat lets somebody read. That the tour was interrupted meanwhile is found out by the next attempt.
func (t *tour) beat(ctx context.Context) {
	timer := time.NewTimer(t.pace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// must is play for what the rest of the tour builds on.
func (t *tour) must(ctx context.Context, a attempt) error {
	fits, err := t.play(ctx, a)
	if err == nil && !fits {
		err = fmt.Errorf("the tour ends here, the rest needs %q to work", a.what)
	}
	return err
}
