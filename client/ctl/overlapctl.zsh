#compdef overlapctl
# SPDX-License-Identifier: Apache-2.0
# Completion of overlapctl's command line, for zsh.

_overlapctl_unit() {
  compadd -- ${(f)"$(systemctl list-units --plain --no-legend --full 2>/dev/null | cut -d ' ' -f 1)"}
}

_overlapctl_verb() {
  case $words[1] in
  config) _arguments $common '1:what:(cat)' ;;
  list)
    _arguments $common '1:what:(sessions sockets ops ports threads quotas)' '--session=[of this session only]:number: ' \
      '--user=[of this user only]:user:_users' '--unit=[of this unit only]:unit:_overlapctl_unit' \
      '--limit=[at most so many]:number: '
    ;;
  log)
    _arguments $common '(-f --follow)'{-f,--follow}'[go on with what comes]' \
      '(-n --lines)'{-n+,--lines=}'[the last so many lines]:number or all: ' \
      '(-S --since)'{-S+,--since=}'[not what is older]:time: ' '(-U --until)'{-U+,--until=}'[not what is newer]:time: ' \
      '(-u --unit)'{-u+,--unit=}'[about clients of this unit]:unit:_overlapctl_unit' \
      '--user=[about clients of this user]:user:_users' '(-s --session)'{-s+,--session=}'[about this session]:number: ' \
      '(-r --refused)'{-r,--refused}'[what was refused]' \
      '(-D --directory)'{-D+,--directory=}'[of these files]:directory:_directories' \
      '*--file=[of this file]:file:_files' '--own[of this user'\''s own service]' '--any[of any daemon]'
    ;;
  ping)
    _arguments $common '(-c --count)'{-c+,--count=}'[round trips of each kind]:number: ' \
      '(-i --interval)'{-i+,--interval=}'[pause before each]:seconds: '
    ;;
  policy)
    _arguments $common '--unit=[a program of this unit]:unit:_overlapctl_unit' '--user=[of this user]:user:_users' \
      '--group=[of this group]:group:_groups' '--cgroup=[in this control group]:path: ' \
      '--private-network[in another network namespace]' '1:what:(test)' \
      '2:action:(connect listen sendto resolve export)' '3:protocol:(tcp udp unix)' '4:host and port: '
    ;;
  top)
    _arguments $common '(-b --batch)'{-b,--batch}'[tables instead of a screen]' \
      '(-n --iterations)'{-n+,--iterations=}'[end after so many tables]:number: ' \
      '(-d --delay)'{-d+,--delay=}'[between two looks]:seconds: ' \
      '(-o --sort)'{-o+,--sort=}'[the greatest first]:column:(bytes ops received sent sockets in-flight age)'
    ;;
  *) _arguments $common ;;
  esac
}

local -a common=(
  '--admin=[where administrators connect]:socket:_files'
  '--socket=[where clients connect]:socket:_files'
  '--json[one JSON document]'
  '--quiet[nothing but errors and the exit status]'
  '(- *)--version[say which version this is]'
  '(- *)--help[say what there is]'
)

_arguments -C $common '1:verb:(config doctor list log metrics ping policy status top)' '*::argument:_overlapctl_verb'
