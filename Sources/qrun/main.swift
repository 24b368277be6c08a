import QMCommands
