import QMCommands

AllTools.start()
