package blackbox_test

import (
	"strings"
	"testing"
)

// A judge that lets everything pass proves nothing: these tests show it each kind of breach.

const (
	helloFrame = "event: hello\ndata: {\"channels\":[]}\n\n"
	beatFrame  = "id: aaaaaaaa-5\nevent: heartbeat\ndata: {\"time\":1}\n\n"
)

func eventFrame(id, extra string) string {
	if id != "" {
		id = "id: " + id + "\n"
	}
	return id + "data: {\"channel\":\"c\",\"time\":1.5,\"data\":1" + extra + "}\n\n"
}

// breach reads a stream by the rules and returns the first breach, "" if there is none.
func breach(t *testing.T, r rules, text string) string {
	t.Helper()
	sse := newSSEReader(strings.NewReader(text))
	for {
		f, err := sse.next()
		if err != nil {
			return ""
		}
		if _, err := r.check(f); err != nil {
			return err.Error()
		}
	}
}

func TestTheRulesAcceptWhatTheContractShows(t *testing.T) {
	text := "retry: 2417\n\n" + helloFrame + beatFrame + eventFrame("aaaaaaaa-6", "") + eventFrame("", `,"replay":true,"at":"aaaaaaaa-2"`) +
		"id: aaaaaaaa-6\nevent: heartbeat\ndata: {}\n\n" + "event: gap\ndata: {}\n\n" + eventFrame("aaaaaaaa-9", "") + "event: bye\ndata: {}\n\n"
	if got := breach(t, rules{}, text); got != "" {
		t.Errorf("refused: %s", got)
	}
}

func TestTheRulesFindEachBreach(t *testing.T) {
	for name, text := range map[string]string{
		"an event before hello":        eventFrame("aaaaaaaa-6", ""),
		"a second hello":               helloFrame + helloFrame,
		"an id on hello":               "id: aaaaaaaa-1\n" + helloFrame,
		"no id on an event":            helloFrame + eventFrame("", ""),
		"an id that is no cursor":      helloFrame + eventFrame("6", ""),
		"an id in another spelling":    helloFrame + eventFrame("aaaaaaaa-06", ""),
		"an event twice":               helloFrame + eventFrame("aaaaaaaa-6", "") + eventFrame("aaaaaaaa-6", ""),
		"an id that falls":             helloFrame + eventFrame("aaaaaaaa-6", "") + eventFrame("aaaaaaaa-5", ""),
		"an event the heartbeat hid":   helloFrame + beatFrame + eventFrame("aaaaaaaa-5", ""),
		"a heartbeat that falls":       helloFrame + eventFrame("aaaaaaaa-6", "") + beatFrame,
		"no id on a heartbeat":         helloFrame + "event: heartbeat\ndata: {}\n\n",
		"an epoch that changes":        helloFrame + beatFrame + eventFrame("bbbbbbbb-6", ""),
		"replayed history with an id":  helloFrame + eventFrame("aaaaaaaa-6", `,"replay":true,"at":"aaaaaaaa-6"`),
		"replayed history without at":  helloFrame + eventFrame("", `,"replay":true`),
		"what the cursor had":          helloFrame + eventFrame("aaaaaaaa-3", ""),
		"no JSON":                      helloFrame + "id: aaaaaaaa-6\ndata: {\n\n",
		"no channel":                   helloFrame + "id: aaaaaaaa-6\ndata: {\"time\":1,\"data\":1}\n\n",
		"an id on a gap":               helloFrame + "id: aaaaaaaa-6\nevent: gap\ndata: {}\n\n",
		"a reserved type":              helloFrame + "id: aaaaaaaa-6\nevent: error\ndata: {\"channel\":\"c\",\"time\":1,\"data\":1}\n\n",
		"an id alone moves the cursor": helloFrame + "id: aaaaaaaa-6\n\n",
	} {
		if breach(t, rules{after: cursor{"aaaaaaaa", 3}}, text) == "" {
			t.Errorf("%s passes", name)
		}
	}
}

func TestTheJudgeFindsLossRepeatInversionAndInvention(t *testing.T) {
	one, two, three := mark{1, "a"}, mark{2, "b"}, mark{3, "c"}
	want := []mark{one, two, three}
	if diff := differ(want, want); diff != "" {
		t.Errorf("the same: %s", diff)
	}
	for name, got := range map[string][]mark{
		"nothing": nil, "a loss in the middle": {one, three}, "a loss at the end": {one, two}, "a repeat": {one, two, two, three},
		"an inversion": {one, three, two}, "an invention": {one, two, three, {4, "d"}}, "another place": {one, {9, "b"}, three},
	} {
		if differ(got, want) == "" {
			t.Errorf("%s passes", name)
		}
	}
}
