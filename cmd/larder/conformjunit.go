package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"os"

	"github.com/larder-build/larder/cacheprogtest"
)

// The form of JUnit's reports that continuous integration systems read: Jenkins, GitLab and others. It knows no warnings; they
// are passes with what was seen in system-out.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"` // seconds
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes a report to a file.
func writeJUnit(name string, r cacheprogtest.Report) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := encodeJUnit(f, r); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return f.Close()
}

func encodeJUnit(w io.Writer, r cacheprogtest.Report) error {
	s := junitSuite{Name: "larder conform", Tests: len(r.Results), Failures: r.Count(cacheprogtest.Fail), Skipped: r.Count(cacheprogtest.Skipped)}
	var total float64
	for _, result := range r.Results {
		total += result.Seconds
		c := junitCase{Class: "cacheprogtest", Name: result.Name, Time: fmt.Sprintf("%.3f", result.Seconds)}
		about := fmt.Sprintf("rule: %s\nsource: %s\nprogram: %s", result.Rule.Rule, result.Source, r.Program)
		switch result.Verdict {
		case cacheprogtest.Fail:
			c.Failure = &junitMessage{result.Detail, about}
		case cacheprogtest.Skipped:
			c.Skipped = &junitMessage{Message: result.Detail}
		case cacheprogtest.Warning:
			c.Output = "warning: " + result.Detail + "\n" + about
		}
		s.Cases = append(s.Cases, c)
	}
	s.Time = fmt.Sprintf("%.3f", total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	out := xml.NewEncoder(w)
	out.Indent("", "  ")
	if err := out.Encode(s); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
