package doctor

// What Look parses.
var (
	ParseMod    = parseMod
	Written     = written
	VersionLine = versionLine
)
