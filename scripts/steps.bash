# shellcheck shell=bash
# Steps for demo and test, which read this file with `.`: each with its name, its result and its seconds, what compiles with
# its progress; whatever runs beside them, and what an interrupted one leaves, is ended.

# Seconds between two lines about how far something is that prints nothing by itself.
every_s=15

work=$(mktemp -d "${TMPDIR:-/tmp}/sw-XXXXXX")
bold='' plain=''
if [ -t 1 ]; then bold=$'\033[1m' plain=$'\033[0m'; fi
names=() results=() seconds=()
# Process groups that run; each child leads one of its own, so that what it started ends with it.
declare -A groups=()

# NAME RESULT SECONDS
record() {
  names+=("$1") results+=("$2") seconds+=("$3")
}
# A line of its own for every step, and all of them together.
summary() {
  local n
  printf '\n== Steps\n'
  for n in "${!names[@]}"; do printf '%6d s  %-6s  %s\n' "${seconds[n]}" "${results[n]}" "${names[n]}"; done
  printf '%6d s  in all\n' "$SECONDS"
}

# LOG COMMAND...: starts a command with its output in a file, or as it is for an empty one. Its process is `$child`.
begin() {
  local log=$1
  shift
  # Job control gives it a process group of its own.
  set -m
  if [ -n "$log" ]; then "$@" >"$log" 2>&1 </dev/null & else "$@" </dev/null & fi
  child=$!
  set +m
  groups[$child]=1
}
# CHILD [LOG]: waits for it and gives back its status. `wait` is what a trap can interrupt; a command in the foreground is not.
finish() {
  local code=0
  wait "$1" || code=$?
  unset "groups[$1]"
  return "$code"
}
# Ends everything that runs. What does not heed a TERM is killed.
end_all() {
  local group
  for group in "${!groups[@]}"; do kill -TERM -- "-$group" 2>/dev/null || true; done
  for group in "${!groups[@]}"; do
    for _ in {1..100}; do
      kill -0 -- "-$group" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL -- "-$group" 2>/dev/null || true
  done
  groups=()
}

# NAME HINT: the heading of a step.
heading() { printf '\n%s== %s%s%s\n' "$bold" "$1" "${2:+ ($2)}" "$plain"; }
# NAME HINT COMMAND...: one step.
step() {
  local name=$1 began=$SECONDS code=0
  heading "$1" "$2"
  shift 2
  begin "" "$@"
  finish "$child" || code=$?
  ended "$name" "$code" $((SECONDS - began))
}
# NAME STATUS SECONDS: how a step ended, at once and for the summary.
ended() {
  local result=ok
  [ "$2" = 0 ] || result=FAILED
  printf -- '-- %s: %s, %d s\n' "$1" "$result" "$3"
  record "$1" "$result" "$3"
  return "$2"
}

# What cargo says on its way. A reader wants to know how far it is, and then its warnings and errors.
chatter='^ *(Compiling|Checking|Downloaded|Downloading|Fresh|Finished|Blocking|Locking|Updating|Executable|Adding) '
# LOG CRATES: says how far cargo is, until it is ended.
progress() {
  local began=$SECONDS
  while sleep "$every_s"; do
    printf '   %3d s: %d of at most %d crates\n' $((SECONDS - began)) "$(grep -cE '^ *(Compiling|Checking) ' "$1")" "$2" || true
  done
}
# NAME HINT WORD...: one step of cargo that compiles. Warnings and errors follow at its end.
compile() {
  local name=$1 hint=$2 began=$SECONDS code=0 log=$work/cargo crates beat
  shift 2
  heading "$name" "$hint"
  crates=$(cargo tree --prefix none --edges normal,build,dev 2>/dev/null | sort -u | wc -l)
  begin "$log" cargo "$@"
  local cargo=$child
  begin "" progress "$log" "$crates"
  beat=$child
  finish "$cargo" || code=$?
  kill -TERM -- "-$beat" 2>/dev/null || true
  { finish "$beat" || true; } 2>/dev/null
  grep -vE "$chatter" "$log" >&2 || true
  ended "$name" "$code" $((SECONDS - began))
}
