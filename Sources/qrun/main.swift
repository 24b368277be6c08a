import QMCommands

RunCommand.start()
