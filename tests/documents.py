"""Manual pages and completions say what --help says: every verb, every option of it and every choice is
in the page and is offered by bash, and nothing else is; both shells read their files.

    documents.py BUILD

What needs mandoc, man or zsh is left out, with a line, where they are not installed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

BUILD = os.path.abspath(sys.argv[1])
DOCUMENTS = os.path.join(BUILD, "documents")
OPTION = re.compile(r"^ {2}(?:-(\w), |    )--([\w-]+)(?: (\S+))?(?: |$)", re.M)
checks = 0


def check(good, what):
    global checks
    checks += 1
    if not good:
        sys.exit("documents: FAILED: " + what)


def same(found, wanted, what):
    extra, missing = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    check(not extra and not missing, "%s: missing %s, too much %s" % (what, missing, extra))


def output(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def read(name):
    with open(os.path.join(DOCUMENTS, name)) as file:
        return file.read()


class Command:
    """A program's verb (None: it has none), and the options of its help: (letter, name, argument)."""

    def __init__(self, program, verb):
        self.program, self.verb = program, verb
        path = os.path.join(BUILD, program)
        self.help = output(path, verb, "--help") if verb else output(path, "--help")
        self.options = OPTION.findall(self.help)
        self.name = program + (" " + verb if verb else "")
        check(len(self.options) > 3, self.name + ": no options in its help")


def verbs_of(program):
    text = output(os.path.join(BUILD, program), "--help")
    verbs = re.findall(r"^ {2}([a-z]+) ", text, re.M)
    return [] if program == "muontrain" else verbs


def commands_of(program):
    return [Command(program, verb) for verb in verbs_of(program) or [None]]


# ---- manual pages --------------------------------------------------------------------------------


def plain(roff):
    for escape, text in (("\\fB", ""), ("\\fR", ""), ("\\fI", ""), ("\\-", "-"), ("\\(aq", "'"),
                         ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\&", ""), ("\\e", "\\")):
        roff = roff.replace(escape, text)
    return roff


def check_manual(program, commands):
    page = plain(read(program + ".1"))
    check(not re.search("@[A-Z]+@", page), program + ".1: a placeholder is left")
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
        check("\n.SH %s\n" % section in page, "%s.1: no section %s" % (program, section))
    common = page.split("\n.SH COMMON OPTIONS\n")[-1] if commands[0].verb else ""
    for command in commands:
        own = page
        if command.verb:
            parts = page.split("\n.SS %s\n" % command.verb)
            check(len(parts) == 2, "%s.1: %d subsections %s" % (program, len(parts) - 1, command.verb))
            own = re.split(r"\n\.S[SH] ", parts[1])[0] + "\n"
        for letter, name, argument in command.options:
            entry = ("-%s, " % letter if letter else "") + "--" + name + (" " + argument if argument else "")
            where = "%s.1, %s: --%s" % (program, command.verb, name)
            if not re.search(r"\n\.TP\n%s\n" % re.escape(entry), own):
                check(re.search(r"\n--%s[,.]\n" % name, own), where + " is not named")
                check("\n.TP\n%s\n" % entry in "\n" + common, where + " is not among common options")
        if command.verb:
            named = set(re.findall(r"^(?:-\w, )?--([\w-]+)", own, re.M))
            same(named, {name for _, name, _ in command.options}, "%s.1, %s" % (program, command.verb))


def check_notes(program, command):
    """What the help says after the options is in the page, word by word."""
    notes = re.search(r" --version +version\n\n(.*?)(?:Exit status|\Z)", command.help, re.S)
    if not notes:
        return 0
    page = [plain(line) for line in read(program + ".1").split("\n") if not line.startswith(".")]
    check(" ".join(notes.group(1).split()) in " ".join(" ".join(page).split()),
          "%s.1: not all that '%s --help' says after the options" % (program, command.name))
    return len(notes.group(1)) > 0


def lint(program):
    page = os.path.join(DOCUMENTS, program + ".1")
    used = 0
    if shutil.which("mandoc"):
        done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page], capture_output=True, text=True)
        check(not done.stdout and not done.returncode, done.stdout + done.stderr)
        used += 1
    if shutil.which("man") and shutil.which("groff"):
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
                              capture_output=True, text=True, env=dict(os.environ, LC_ALL="C.UTF-8"))
        check(not done.stderr, done.stderr)
        used += 1
    return used


# ---- bash ----------------------------------------------------------------------------------------


class Bash:
    """Questions are asked all at once: by each a line of words, and what COMPREPLY holds then."""

    def __init__(self):
        self.questions = []

    def ask(self, what, words, wanted):
        self.questions.append((what, words, wanted))

    def run(self, folder):
        script = ["set -u"] + ["source '%s/%s.bash'" % (DOCUMENTS, p) for p in PROGRAMS]
        for _, words, _ in self.questions:
            quoted = " ".join("'%s'" % word for word in words)
            script.append("COMP_WORDS=(%s) COMP_CWORD=%d; _%s; printf '%%s\\n' \"${COMPREPLY[@]}\"; echo ."
                          % (quoted, len(words) - 1, words[0]))
        done = subprocess.run(["bash", "--norc"], input="\n".join(script), capture_output=True, text=True,
                              cwd=folder)
        check(not done.stderr and not done.returncode, "bash: " + done.stderr)
        answers = done.stdout.split("\n.\n")
        for (what, words, wanted), answer in zip(self.questions, answers):
            same([a for a in answer.split("\n") if a], wanted, "bash, '%s': %s" % (" ".join(words), what))
        check(len(answers) == len(self.questions) + 1, "bash: some questions have no answer")


def ask_about(bash, command):
    start = [command.program] + ([command.verb] if command.verb else [])
    names = ["--" + name for _, name, _ in command.options]
    bash.ask("options", start + ["-"], names)
    bash.ask("options of a beginning", start + ["--he"], [n for n in names if n.startswith("--he")])
    for letter, name, argument in command.options:
        if "|" not in argument:
            continue
        choices = argument.split("|")
        bash.ask("choices", start + ["--" + name, ""], choices)
        bash.ask("choices after =", start + ["--" + name, "=", ""], choices)
        bash.ask("choices within a word", start + ["--%s=%s" % (name, choices[0])],
                 ["--%s=%s" % (name, c) for c in choices if c.startswith(choices[0])])
        if letter:
            bash.ask("choices", start + ["-" + letter, choices[-1]],
                     [c for c in choices if c.startswith(choices[-1])])


def ask_about_values(bash):
    metrics = [m["name"] for m in
               json.loads(output(os.path.join(BUILD, "muonspec"), "metrics", "--format", "json"))["metrics"]]
    norms = [m for m in metrics if m.startswith("s")]
    check(len(metrics) > 20 and norms, "muonspec metrics lists few")
    bash.ask("metrics", ["muonspec", "analyze", "--metrics", ""], metrics)
    bash.ask("metrics", ["muonspec", "track", "-m", "s"], norms)
    bash.ask("metrics after a comma", ["muonspec", "compare", "-m", "rms,s"], ["rms," + n for n in norms])
    bash.ask("metrics after = and a comma", ["muonlab", "inspect", "--metrics", "=", "rms,s"],
             ["rms," + n for n in norms])
    bash.ask("a metric", ["muonspec", "analyze", "--sort", "s"], norms)
    bash.ask("tables", ["muontrain", "--coefficients", "you"], ["you5"])
    bash.ask("presets", ["muontrain", "--model", "moe"], ["moe-tiny", "moe-2m"])
    for program in ("muonspec", "muonlab"):
        bash.ask("verbs", [program, ""], verbs_of(program) + ["--help", "--version"])
    bash.ask("a verb", ["muonspec", "an"], ["analyze"])
    bash.ask("files", ["muonspec", "analyze", ""], ["a file.h5", "another", "folder"])
    bash.ask("files", ["muonspec", "compare", "--all", "a file.h5", "ano"], ["another"])
    bash.ask("files", ["muontrain", "--corpus", "a"], ["a file.h5", "another"])
    bash.ask("files after =", ["muonspec", "check", "--rules=ano"], ["--rules=another"])
    bash.ask("folders", ["muonspec", "plot", "--output", ""], ["folder"])
    bash.ask("folders", ["muonlab", "fit", ""], ["folder"])
    bash.ask("no arguments", ["muonspec", "metrics", ""], [])
    bash.ask("nothing for a number", ["muonspec", "analyze", "--top", ""], [])
    bash.ask("nothing for an unknown verb", ["muonspec", "nonsense", ""], [])
    bash.ask("nothing for what the verb doesn't take", ["muonspec", "ls", "--top"], [])


def check_bash(commands):
    bash = Bash()
    for command in commands:
        ask_about(bash, command)
    ask_about_values(bash)
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "folder"))
        for name in ("a file.h5", "another"):
            open(os.path.join(folder, name), "w").close()
        bash.run(folder)
    return len(bash.questions)


# ---- zsh -----------------------------------------------------------------------------------------


def check_zsh(program, commands):
    text = read("_" + program)
    check(text.startswith("#compdef %s\n" % program), "_%s: no #compdef" % program)
    for command in commands:
        own = text
        if command.verb:
            own = re.search(r"^%s\)\n(.*?)^\t;;$" % command.verb, text, re.M | re.S)
            check(own, "_%s: no branch %s" % (program, command.verb))
            own = own.group(1)
        named = re.findall(r"(?:^\t\t(?:'\*')?|,)--([\w-]+?)=?(?:'\[|\})", own, re.M)
        same(named, [name for _, name, _ in command.options], "_%s, %s" % (program, command.verb))
        for _, name, argument in command.options:
            if "|" in argument:
                check("(%s)" % argument.replace("|", " ") in own, "_%s: choices of --%s" % (program, name))
    if shutil.which("zsh"):
        done = subprocess.run(["zsh", "-n", os.path.join(DOCUMENTS, "_" + program)], capture_output=True,
                              text=True)
        check(not done.stderr and not done.returncode, done.stderr)


PROGRAMS = ("muonspec", "muontrain", "muonlab")


def main():
    everything = {program: commands_of(program) for program in PROGRAMS}
    linted = notes = 0
    for program, commands in everything.items():
        notes += sum(check_notes(program, command) for command in commands)
        check_manual(program, commands)
        check_zsh(program, commands)
        linted += lint(program)
    check(notes >= 2, "only %d commands have notes: muonspec check and muontrain do" % notes)
    questions = check_bash([c for commands in everything.values() for c in commands])
    for tool in ("mandoc", "man", "zsh"):
        if not shutil.which(tool):
            print("documents: without %s, which is not installed" % tool)
    print("documents: %d checks of manual pages (%d linted) and completions (%d questions to bash), ok"
          % (checks, linted, questions))


main()
