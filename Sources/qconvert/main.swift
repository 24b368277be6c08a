import QMCommands

ConvertCommand.start()
