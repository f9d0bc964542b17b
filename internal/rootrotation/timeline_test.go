package rootrotation

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/pki"
)

func TestTheTimelineSaysWhenEachStepCanBe(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f := settled()
	const day = 24 * time.Hour
	records := []pki.Record{
		{ID: ledgerID, RootSHA256: hex.EncodeToString(sum(f.rotation.Old)), NotAfter: now.Add(5 * time.Hour)},
		{ID: billingID, RootSHA256: hex.EncodeToString(sum(f.rotation.New)), NotAfter: now.Add(20 * time.Hour)},
	}
	type point struct {
		In   time.Duration // from now
		Step string
		Done bool
	}
	for _, test := range []struct {
		name     string
		rotation pki.Rotation
		live     []pki.Record
		life     time.Duration
		want     []point
	}{
		{"nothing begun, leaves of a day", pki.Rotation{}, nil, day, []point{
			{0, "prepare", false}, {time.Minute, "", false}, {time.Minute, "activate", false}, {day + time.Minute, "", false}, {day + time.Minute, "retire", false}}},
		{"nothing begun, leaves of 20 s", pki.Rotation{}, nil, 20 * time.Second, []point{
			{0, "prepare", false}, {2 * time.Second, "", false}, {2 * time.Second, "activate", false}, {22 * time.Second, "", false}, {22 * time.Second, "retire", false}}},
		{"prepared an hour ago", pki.Rotation{Phase: pki.RotationPrepared, PreparedAt: now.Add(-time.Hour), New: f.rotation.New}, nil, day, []point{
			{-time.Hour, "prepare", true}, {time.Minute - time.Hour, "", true}, {0, "activate", false}, {day, "", false}, {day, "retire", false}}},
		{"activated, a leaf under the old root left", pki.Rotation{Phase: pki.RotationActivated, PreparedAt: now.Add(-2 * time.Hour), ActivatedAt: now.Add(-time.Hour),
			New: f.rotation.New}, records, day, []point{
			{-2 * time.Hour, "prepare", true}, {time.Minute - 2*time.Hour, "", true}, {-time.Hour, "activate", true}, {5 * time.Hour, "", false}, {5 * time.Hour, "retire", false}}},
		{"activated just now, no leaf under the old root left", pki.Rotation{Phase: pki.RotationActivated, PreparedAt: now.Add(-time.Hour), ActivatedAt: now,
			New: f.rotation.New}, records[1:], day, []point{
			{-time.Hour, "prepare", true}, {time.Minute - time.Hour, "", true}, {0, "activate", true}, {0, "", true}, {3 * time.Minute, "retire", false}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var got []point
			for _, e := range timeline(test.rotation, test.live, test.life, now) {
				got = append(got, point{e.At.Sub(now), e.Step, e.Done})
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
