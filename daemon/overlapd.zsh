#compdef overlapd
# SPDX-License-Identifier: Apache-2.0
# Completion of overlapd's command line, for zsh.

_overlapd_policies() {
  _alternative 'policies:policy:(system own)' 'directories:directory:_directories'
}

_arguments -S \
  '--socket=[where clients connect]:socket:_files' \
  '--engine=[what performs the I/O]:engine:(auto uring epoll)' \
  '--workers=[processes that serve]:number, 1 to 64: ' \
  '--log=[where lines are written]:target:(journal stderr)' \
  '--poll-us=[how long a worker looks for work before it sleeps]:microseconds, 0 to 1000: ' \
  '--policy=[whose rules hold]:policy:_overlapd_policies' \
  '--config=[settings]:file:_files' \
  '--check-config[read the settings, say OK or what is wrong]' \
  '--private[run a command with a daemon of its own]' \
  '(- *)--version[say which version this is]' \
  '(- *)--help[say what options there are]' \
  '1:command: _command_names -e' \
  '*::arguments: _normal'
