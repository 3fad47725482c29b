package docs

import (
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tool finds a program that a test needs. A laptop may lack it; where CI is set it must be there.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed, and CI is set: install it, so that this test runs", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

func runIn(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...) //nolint:gosec // the tests name what they run
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestVectorsAreWhatTheirGeneratorMakes(t *testing.T) {
	runIn(t, "..", tool(t, "go"), "run", "./testdata/vectors/generate", "-check")
}

func TestVectorsHoldInPHP(t *testing.T) {
	runIn(t, "..", tool(t, "php"), "testdata/vectors/check.php")
}

func TestVectorsHoldInNode(t *testing.T) {
	runIn(t, "..", tool(t, "node"), "testdata/vectors/check.mjs")
}
